alter table "post" add column "violatesEmbeddingRules" boolean;
alter table "post" add column "hasThreadGate" boolean;
alter table "post" add column "hasPostGate" boolean;
