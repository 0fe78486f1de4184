create table "thread_gate" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "postUri" varchar not null unique,
  "createdAt" varchar not null,
  "indexedAt" varchar not null
);
alter table "post" add column "invalidReplyRoot" boolean;
alter table "post" add column "violatesThreadGate" boolean;
