create table "post_embed_video" (
  "postUri" varchar not null,
  "videoCid" varchar not null,
  "alt" varchar,
  constraint "post_embed_video_pkey" primary key ("postUri")
);
