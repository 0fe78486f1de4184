create table "moderation_action" (
  "id" serial primary key,
  "action" varchar not null,
  "subjectType" varchar not null,
  "subjectDid" varchar not null,
  "subjectUri" varchar,
  "subjectCid" varchar,
  "reason" text not null,
  "createdAt" varchar not null,
  "createdBy" varchar not null,
  "reversedAt" varchar,
  "reversedBy" varchar,
  "reversedReason" text,
  "createLabelVals" varchar,
  "negateLabelVals" varchar
);
create table "moderation_action_subject_blob" (
  "actionId" integer not null references "moderation_action" ("id"),
  "cid" varchar not null,
  constraint "moderation_action_subject_blob_pkey" primary key ("actionId", "cid")
);
create index "moderation_action_subject_blob_cid_idx" on "moderation_action_subject_blob" ("cid");
create table "moderation_report" (
  "id" serial primary key,
  "subjectType" varchar not null,
  "subjectDid" varchar not null,
  "subjectUri" varchar,
  "subjectCid" varchar,
  "reasonType" varchar not null,
  "reason" text,
  "reportedByDid" varchar not null,
  "createdAt" varchar not null
);
create table "moderation_report_resolution" (
  "reportId" integer not null references "moderation_report" ("id"),
  "actionId" integer not null references "moderation_action" ("id"),
  "createdBy" varchar not null,
  "createdAt" varchar not null,
  constraint "moderation_report_resolution_pkey" primary key ("reportId", "actionId")
);
create index "moderation_report_resolution_action_id_idx" on "moderation_report_resolution" ("actionId");
create table "label" (
  "src" varchar not null,
  "uri" varchar not null,
  "cid" varchar not null,
  "val" varchar not null,
  "neg" boolean not null,
  "cts" varchar not null,
  constraint "label_pkey" primary key ("src", "uri", "cid", "val")
);
create index "label_uri_index" on "label" ("uri");
alter table "actor" add constraint "actor_takedown_id_fkey" foreign key ("takedownId") references "moderation_action" ("id");
alter table "record" add constraint "record_takedown_id_fkey" foreign key ("takedownId") references "moderation_action" ("id");
