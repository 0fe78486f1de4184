create index "label_cts_idx" on "label" ("cts");
drop index "feed_item_originator_idx";
create index "feed_item_originator_cursor_idx" on "feed_item" ("originatorDid", "sortAt", "cid");
create index "record_did_idx" on "record" ("did");
