alter table "post_agg" add column "quoteCount" bigint default 0 not null;
