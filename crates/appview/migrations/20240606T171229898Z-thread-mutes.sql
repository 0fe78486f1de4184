create table "thread_mute" (
  "rootUri" varchar not null,
  "mutedByDid" varchar not null,
  "createdAt" varchar not null,
  constraint "thread_mute_pkey" primary key ("rootUri", "mutedByDid")
);
