create table "labeler" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null
);
create index "labeler_order_by_idx" on "labeler" ("sortAt", "cid");
