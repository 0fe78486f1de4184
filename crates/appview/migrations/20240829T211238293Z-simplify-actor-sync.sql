alter table "actor_sync" drop column "commitDataCid";
alter table "actor_sync" drop column "rebaseCount";
alter table "actor_sync" drop column "tooBigCount";
