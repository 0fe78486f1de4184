create table "notification" (
  "id" bigserial primary key,
  "did" varchar not null,
  "recordUri" varchar not null,
  "recordCid" varchar not null,
  "author" varchar not null,
  "reason" varchar not null,
  "reasonSubject" varchar,
  "sortAt" varchar not null
);
create index "notification_did_sortat_idx" on "notification" ("did", "sortAt");
