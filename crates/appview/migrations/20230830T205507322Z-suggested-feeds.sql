create table "suggested_feed" (
  "uri" varchar primary key,
  "order" integer not null
);
