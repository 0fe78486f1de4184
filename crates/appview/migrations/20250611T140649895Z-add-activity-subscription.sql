create table "activity_subscription" (
  "creator" varchar not null,
  "subjectDid" varchar not null,
  "key" varchar not null,
  "indexedAt" varchar not null,
  "post" boolean not null,
  "reply" boolean not null,
  constraint "activity_subscription_pkey" primary key ("creator", "key"),
  constraint "activity_subscription_unique_creator_subject_did" unique ("creator", "subjectDid")
);
