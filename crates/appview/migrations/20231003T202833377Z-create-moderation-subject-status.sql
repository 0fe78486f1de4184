create table "moderation_event" (
  "id" serial primary key,
  "action" varchar not null,
  "subjectType" varchar not null,
  "subjectDid" varchar not null,
  "subjectUri" varchar,
  "subjectCid" varchar,
  "comment" text,
  "meta" jsonb,
  "createdAt" varchar not null,
  "createdBy" varchar not null,
  "reversedAt" varchar,
  "reversedBy" varchar,
  "durationInHours" integer,
  "expiresAt" varchar,
  "reversedReason" text,
  "createLabelVals" varchar,
  "negateLabelVals" varchar,
  "legacyRefId" integer
);
create table "moderation_subject_status" (
  "id" serial primary key,
  "did" varchar not null,
  "recordPath" varchar default '' not null,
  "blobCids" jsonb,
  "recordCid" varchar,
  "reviewState" varchar not null,
  "comment" varchar,
  "muteUntil" varchar,
  "lastReviewedAt" varchar,
  "lastReviewedBy" varchar,
  "lastReportedAt" varchar,
  "takendown" boolean default false not null,
  "suspendUntil" varchar,
  "createdAt" varchar not null,
  "updatedAt" varchar not null,
  constraint "moderation_status_unique_idx" unique ("did", "recordPath")
);
create index "moderation_subject_status_blob_cids_idx" on "moderation_subject_status" using gin ("blobCids");
alter table "record" drop constraint "record_takedown_id_fkey";
alter table "actor" drop constraint "actor_takedown_id_fkey";
alter table "actor" add constraint "actor_takedown_id_fkey" foreign key ("takedownId") references "moderation_event" ("id");
alter table "record" add constraint "record_takedown_id_fkey" foreign key ("takedownId") references "moderation_event" ("id");
