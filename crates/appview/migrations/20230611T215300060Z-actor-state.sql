create table "actor_state" (
  "did" varchar primary key,
  "lastSeenNotifs" varchar not null
);
