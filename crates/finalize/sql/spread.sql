-- A reply to an invalid reply is invalid. Each post is reached once: the walk stops at posts that
-- are known already. It goes level by level in a table, because the working set of a recursive
-- query cannot spill to disk, and a thread may have any number of replies. Each step is an index
-- lookup; with a free join, all posts would be read again for each step.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;
CREATE TEMPORARY TABLE below (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uri text NOT NULL) ON COMMIT DROP;
INSERT INTO below (uri)
SELECT p.uri FROM {from} WHERE {in} AND NOT EXISTS (SELECT FROM skyfill.finalize_bad known WHERE known.uri = p.uri);
DO $$
DECLARE
  level bigint := 0;
  top bigint;
BEGIN
  LOOP
    SELECT max(number) INTO top FROM below;
    EXIT WHEN top IS NULL OR top = level;
    INSERT INTO below (uri)
    SELECT p.uri FROM below b
      CROSS JOIN LATERAL (SELECT p.uri FROM post p WHERE p."replyParent" = b.uri OFFSET 0) p
    WHERE b.number > level AND b.number <= top AND {reached}
      AND NOT EXISTS (SELECT FROM skyfill.finalize_bad known WHERE known.uri = p.uri);
    level := top;
  END LOOP;
END $$;
INSERT INTO skyfill.finalize_bad (uri) SELECT uri FROM below ON CONFLICT DO NOTHING
