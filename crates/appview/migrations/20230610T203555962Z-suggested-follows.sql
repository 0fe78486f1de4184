create table "suggested_follow" (
  "did" varchar primary key,
  "order" integer not null
);
