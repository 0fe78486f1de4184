create table "did_cache" (
  "did" varchar primary key,
  "doc" jsonb not null,
  "updatedAt" bigint not null
);
