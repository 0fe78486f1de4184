alter table "record" add column "tags" jsonb;
