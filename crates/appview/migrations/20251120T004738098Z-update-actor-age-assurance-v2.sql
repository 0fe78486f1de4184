alter table "actor" add column "ageAssuranceAccess" text;
alter table "actor" add column "ageAssuranceCountryCode" text;
alter table "actor" add column "ageAssuranceRegionCode" text;
