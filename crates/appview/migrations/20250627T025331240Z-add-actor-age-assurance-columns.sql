alter table "actor" add column "ageAssuranceStatus" text;
alter table "actor" add column "ageAssuranceLastInitiatedAt" varchar;
