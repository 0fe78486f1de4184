CREATE INDEX like_subject_sort_at_creator_idx
ON "like" ("subject", "sortAt" DESC)
INCLUDE ("creator");
