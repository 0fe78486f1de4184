alter table "profile" add column "pinnedPost" varchar;
alter table "profile" add column "pinnedPostCid" varchar;
