alter table "moderation_action" add column "durationInHours" integer;
alter table "moderation_action" add column "expiresAt" varchar;
