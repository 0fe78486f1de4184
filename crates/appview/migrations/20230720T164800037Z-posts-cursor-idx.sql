create index "post_creator_cursor_idx" on "post" ("creator", "sortAt", "cid");
drop index "post_creator_idx";
