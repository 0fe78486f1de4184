alter table "label" add column "exp" varchar;
