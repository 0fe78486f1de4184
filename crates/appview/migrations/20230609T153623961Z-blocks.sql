create table "actor_block" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "subjectDid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null,
  constraint "actor_block_unique_subject" unique ("creator", "subjectDid")
);
create index "actor_block_subjectdid_idx" on "actor_block" ("subjectDid");
