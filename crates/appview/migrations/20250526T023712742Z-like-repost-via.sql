alter table "like" add column "via" varchar;
alter table "like" add column "viaCid" varchar;
alter table "repost" add column "via" varchar;
alter table "repost" add column "viaCid" varchar;
