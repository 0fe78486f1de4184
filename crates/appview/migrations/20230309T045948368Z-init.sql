create extension if not exists pg_trgm with schema public;
create table "duplicate_record" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "duplicateOf" varchar not null,
  "indexedAt" varchar not null
);
create table "profile" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "displayName" varchar,
  "description" varchar,
  "avatarCid" varchar,
  "bannerCid" varchar,
  "indexedAt" varchar not null
);
create index "profile_creator_idx" on "profile" ("creator");
create index "profile_display_name_tgrm_idx" on "profile" using gist ("displayName" gist_trgm_ops);
create table "post" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "text" varchar not null,
  "replyRoot" varchar,
  "replyRootCid" varchar,
  "replyParent" varchar,
  "replyParentCid" varchar,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null
);
create index "post_creator_idx" on "post" ("creator");
create index "post_replyparent_idx" on "post" ("replyParent");
create index "post_order_by_idx" on "post" ("sortAt", "cid");
create table "post_embed_image" (
  "postUri" varchar not null,
  "position" varchar not null,
  "imageCid" varchar not null,
  "alt" varchar not null,
  constraint "post_embed_image_pkey" primary key ("postUri", "position")
);
create table "post_embed_external" (
  "postUri" varchar primary key,
  "uri" varchar not null,
  "title" varchar not null,
  "description" varchar not null,
  "thumbCid" varchar
);
create table "post_embed_record" (
  "postUri" varchar not null,
  "embedUri" varchar not null,
  "embedCid" varchar not null,
  constraint "post_embed_record_pkey" primary key ("postUri", "embedUri")
);
create table "post_hierarchy" (
  "uri" varchar not null,
  "ancestorUri" varchar not null,
  "depth" integer not null,
  constraint "post_hierarchy_pkey" primary key ("uri", "ancestorUri")
);
create index "post_hierarchy_ancestoruri_idx" on "post_hierarchy" ("ancestorUri");
create table "repost" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "subject" varchar not null,
  "subjectCid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null,
  constraint "repost_unique_subject" unique ("creator", "subject")
);
create index "repost_subject_idx" on "repost" ("subject");
create index "repost_order_by_idx" on "repost" ("sortAt", "cid");
create table "feed_item" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "type" varchar not null,
  "postUri" varchar not null,
  "originatorDid" varchar not null,
  "sortAt" varchar not null
);
create index "feed_item_originator_idx" on "feed_item" ("originatorDid");
create index "feed_item_cursor_idx" on "feed_item" ("sortAt", "cid");
create table "follow" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "subjectDid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null,
  constraint "follow_unique_subject" unique ("creator", "subjectDid")
);
create index "follow_subjectdid_idx" on "follow" ("subjectDid");
create table "like" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "creator" varchar not null,
  "subject" varchar not null,
  "subjectCid" varchar not null,
  "createdAt" varchar not null,
  "indexedAt" varchar not null,
  "sortAt" varchar generated always as (least("createdAt", "indexedAt")) stored not null,
  constraint "like_unique_subject" unique ("subject", "creator")
);
create table "subscription" (
  "service" varchar not null,
  "method" varchar not null,
  "state" varchar not null,
  constraint "subscription_pkey" primary key ("service", "method")
);
create table "actor" (
  "did" varchar primary key,
  "handle" varchar unique,
  "indexedAt" varchar not null,
  "takedownId" integer
);
create index "actor_handle_tgrm_idx" on "actor" using gist ("handle" gist_trgm_ops);
create table "actor_sync" (
  "did" varchar primary key,
  "commitCid" varchar not null,
  "commitDataCid" varchar not null,
  "rebaseCount" integer not null,
  "tooBigCount" integer not null
);
create table "record" (
  "uri" varchar primary key,
  "cid" varchar not null,
  "did" varchar not null,
  "json" text not null,
  "indexedAt" varchar not null,
  "takedownId" integer
);
