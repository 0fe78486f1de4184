create index "like_creator_cursor_idx" on "like" ("creator", "sortAt", "cid");
create index "follow_creator_cursor_idx" on "follow" ("creator", "sortAt", "cid");
create index "follow_subject_cursor_idx" on "follow" ("subjectDid", "sortAt", "cid");
drop index "like_creator_idx";
drop index "follow_subjectdid_idx";
