create table "post_gate" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "postUri" varchar not null unique,
  "createdAt" varchar not null,
  "indexedAt" varchar not null
);
