alter table "post" add column "tags" jsonb;
