create table "starter_pack" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null
);
create index "starter_pack_creator_order_by_idx" on "starter_pack" ("creator", "sortAt", "cid");
alter table "profile" add column "joinedViaStarterPackUri" varchar;
alter table "profile" add column "createdAt" varchar not null;
create index "profile_starter_pack_joined_idx" on "profile" ("joinedViaStarterPackUri", "createdAt");
