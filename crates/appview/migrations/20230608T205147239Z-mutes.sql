create table "mute" (
  "subjectDid" varchar not null,
  "mutedByDid" varchar not null,
  "createdAt" varchar not null,
  constraint "mute_pkey" primary key ("mutedByDid", "subjectDid")
);
