alter table "post" add column "langs" jsonb;
