create index "notification_record_idx" on "notification" ("recordUri");
