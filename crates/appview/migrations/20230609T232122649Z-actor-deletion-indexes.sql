create index "duplicate_record_duplicate_of_idx" on "duplicate_record" ("duplicateOf");
create index "like_creator_idx" on "like" ("creator");
create index "notification_author_idx" on "notification" ("author");
