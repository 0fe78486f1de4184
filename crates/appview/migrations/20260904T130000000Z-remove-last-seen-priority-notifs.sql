alter table "actor_state" drop column "lastSeenPriorityNotifs";
