create table "bookmark" (
  "creator" varchar not null,
  "key" varchar not null,
  "subjectUri" varchar not null,
  "subjectCid" varchar not null,
  "indexedAt" varchar not null,
  constraint "bookmark_pkey" primary key ("creator", "key"),
  constraint "bookmark_unique_uri_creator" unique ("subjectUri", "creator")
);
