alter table "actor_state" add column "priorityNotifs" boolean default false not null;
alter table "actor_state" add column "lastSeenPriorityNotifs" varchar;
