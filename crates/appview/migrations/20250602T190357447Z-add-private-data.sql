create table "private_data" (
  "actorDid" varchar not null,
  "namespace" varchar not null,
  "key" varchar not null,
  "payload" text not null,
  "indexedAt" varchar not null,
  "updatedAt" varchar not null,
  constraint "private_data_pkey" primary key ("actorDid", "namespace", "key")
);
