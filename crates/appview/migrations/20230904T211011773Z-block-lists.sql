create table "list_block" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "subjectUri" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null,
  constraint "list_block_unique_subject" unique ("creator", "subjectUri")
);
