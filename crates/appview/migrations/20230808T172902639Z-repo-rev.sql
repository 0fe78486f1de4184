alter table "actor_sync" add column "repoRev" varchar;
