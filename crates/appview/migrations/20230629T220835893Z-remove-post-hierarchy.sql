drop table "post_hierarchy";
drop index "post_replyparent_idx";
create index "post_replyparent_idx" on "post" ("replyParent") include ("uri");
