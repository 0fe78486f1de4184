create table "verification" (
  "uri" varchar not null primary key,
  "cid" varchar not null,
  "rkey" varchar not null,
  "creator" varchar not null,
  "subject" varchar not null,
  "handle" varchar not null,
  "displayName" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortedAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null,
  constraint "verification_unique_subject_creator" unique ("subject", "creator")
);
alter table "actor" add column "trustedVerifier" boolean default false not null;
