-- Finds cycles of replies. Each cycle has a reply that comes before its parent, so only posts above
-- such replies are examined: first their parents, then the parents of these, level by level in a
-- table, because the working set of a recursive query cannot spill to disk. Then jumps double in
-- length. When they are longer than the number of posts, every post that still has a target is in a
-- cycle or below one, and the targets are the cycles. The first member finds no parent; all others
-- are below it.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
DO $$
DECLARE
  level bigint := 0;
  top bigint;
BEGIN
  INSERT INTO skyfill.finalize_up (uri, jump, least)
  SELECT p.uri, p."replyParent", skyfill.order_of(p.uri) FROM skyfill.finalize_climb c
    CROSS JOIN LATERAL (SELECT p.uri, p."replyParent" FROM post p WHERE p.uri = c.uri OFFSET 0) p;
  LOOP
    SELECT max(number) INTO top FROM skyfill.finalize_up;
    EXIT WHEN top IS NULL OR top = level;
    INSERT INTO skyfill.finalize_up (uri, jump, least)
    SELECT DISTINCT q.uri, q."replyParent", skyfill.order_of(q.uri) FROM skyfill.finalize_up u
      CROSS JOIN LATERAL (SELECT q.uri, q."replyParent" FROM post q WHERE q.uri = u.jump OFFSET 0) q
    WHERE u.number > level AND u.number <= top
      AND NOT EXISTS (SELECT FROM skyfill.finalize_up v WHERE v.uri = q.uri);
    level := top;
  END LOOP;
END $$;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on;
ANALYZE skyfill.finalize_up;
DO $$
DECLARE
  length bigint := 1;
  nodes bigint;
BEGIN
  SELECT count(*) INTO nodes FROM skyfill.finalize_up;
  UPDATE skyfill.finalize_up u SET jump = NULL
  WHERE jump = uri OR jump IS NOT NULL AND NOT EXISTS (SELECT FROM skyfill.finalize_up v WHERE v.uri = u.jump);
  WHILE length < nodes AND EXISTS (SELECT FROM skyfill.finalize_up WHERE jump IS NOT NULL) LOOP
    UPDATE skyfill.finalize_up u SET jump = v.jump, least = least(u.least COLLATE "C", v.least COLLATE "C")
    FROM skyfill.finalize_up v WHERE v.uri = u.jump;
    length := length * 2;
  END LOOP;
  WITH member AS (
    SELECT uri, split_part(least, chr(1), 2) AS first FROM skyfill.finalize_up
    WHERE uri IN (SELECT jump FROM skyfill.finalize_up)
  ), kept AS (
    INSERT INTO skyfill.derived_cycle SELECT uri, first FROM member ON CONFLICT DO NOTHING
  ), stray AS (
    -- A cycle may never come to the root that its members name.
    INSERT INTO skyfill.derived_stray
    SELECT skyfill.key_of(p."replyRoot", ''), p.uri FROM member m
      CROSS JOIN LATERAL (SELECT p.uri, p."replyRoot" FROM post p WHERE p.uri = m.uri OFFSET 0) p
    WHERE p."replyRoot" IS NOT NULL
  )
  INSERT INTO skyfill.finalize_bad (uri) SELECT DISTINCT first FROM member ON CONFLICT DO NOTHING;
END $$;
ANALYZE skyfill.finalize_bad
