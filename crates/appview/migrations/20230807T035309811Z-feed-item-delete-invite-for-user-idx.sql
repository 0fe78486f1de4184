create index "feed_item_post_uri_idx" on "feed_item" ("postUri");
