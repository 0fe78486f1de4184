create table "quote" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "subject" varchar not null,
  "subjectCid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null
);
create index "quote_subject_cursor_idx" on "quote" ("subject", "sortAt", "cid");
