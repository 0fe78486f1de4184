create table "blob_takedown" (
  "did" varchar not null,
  "cid" varchar not null,
  "takedownRef" varchar not null,
  constraint "blob_takedown_pkey" primary key ("did", "cid")
);
alter table "actor" drop constraint "actor_takedown_id_fkey";
alter table "actor" drop column "takedownId";
alter table "actor" add column "takedownRef" varchar;
alter table "record" drop constraint "record_takedown_id_fkey";
alter table "record" drop column "takedownId";
alter table "record" add column "takedownRef" varchar;
