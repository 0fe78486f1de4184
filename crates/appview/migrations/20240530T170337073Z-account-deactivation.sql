alter table "actor" add column "upstreamStatus" varchar;
