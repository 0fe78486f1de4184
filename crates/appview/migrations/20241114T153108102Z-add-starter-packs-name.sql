alter table "starter_pack" add column "name" varchar;
create index "starter_pack_name_tgrm_idx" on "starter_pack" using gist ("name" gist_trgm_ops);
