create table "feed_generator" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "feedDid" varchar not null,
  "displayName" varchar,
  "description" varchar,
  "descriptionFacets" varchar,
  "avatarCid" varchar,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null
);
create index "feed_generator_creator_index" on "feed_generator" ("creator");
