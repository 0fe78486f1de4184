alter table "post_agg" add column "bookmarkCount" bigint default 0 not null;
