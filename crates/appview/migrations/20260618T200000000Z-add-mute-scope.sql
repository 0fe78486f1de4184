alter table "mute" add column "onlyReposts" boolean default false not null, add column "onlyQuoteposts" boolean default false not null;
