create table "op_thread_reply" (
  "rootUri" varchar not null,
  "parentUri" varchar not null,
  "uri" varchar not null,
  "deletedAt" varchar,
  constraint "op_thread_reply_pkey" primary key ("rootUri", "uri")
);
