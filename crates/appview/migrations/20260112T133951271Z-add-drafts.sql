create table "draft" (
  "creator" varchar not null,
  "key" varchar not null,
  "createdAt" varchar not null,
  "updatedAt" varchar not null,
  "payload" text not null,
  constraint "draft_pkey" primary key ("creator", "key")
);
create index "draft_creator_updated_at_key_idx" on "draft" ("creator", "updatedAt", "key");
