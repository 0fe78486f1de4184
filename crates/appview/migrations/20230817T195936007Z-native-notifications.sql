create table "notification_push_token" (
  "did" varchar not null,
  "platform" varchar not null,
  "token" varchar not null,
  "appId" varchar not null,
  constraint "notification_push_token_pkey" primary key ("did", "token")
);
