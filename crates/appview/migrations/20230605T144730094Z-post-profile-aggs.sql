create table "post_agg" (
  "uri" varchar primary key,
  "likeCount" bigint default 0 not null,
  "replyCount" bigint default 0 not null,
  "repostCount" bigint default 0 not null
);
create table "profile_agg" (
  "did" varchar primary key,
  "followersCount" bigint default 0 not null,
  "followsCount" bigint default 0 not null,
  "postsCount" bigint default 0 not null
);
