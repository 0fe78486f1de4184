create table "list" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "name" varchar not null,
  "purpose" varchar not null,
  "description" varchar,
  "descriptionFacets" varchar,
  "avatarCid" varchar,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null
);
create index "list_creator_idx" on "list" ("creator");
create table "list_item" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "subjectDid" varchar not null,
  "listUri" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null,
  constraint "list_item_unique_subject_in_list" unique ("listUri", "subjectDid")
);
create index "list_item_creator_idx" on "list_item" ("creator");
create index "list_item_subject_idx" on "list_item" ("subjectDid");
create table "list_mute" (
  "listUri" varchar not null,
  "mutedByDid" varchar not null,
  "createdAt" varchar not null,
  constraint "list_mute_pkey" primary key ("mutedByDid", "listUri")
);
