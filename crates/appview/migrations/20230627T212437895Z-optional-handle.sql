alter table "actor" alter column "handle" drop not null;
