-- Cycles of replies. In each there is a reply that comes before its parent, so that it is enough to look at what is above those. Jumps
-- double in length: when they are longer than all there is, whoever still has somewhere to jump to is in a cycle or below one, and where they
-- land are the cycles. The first member finds no parent; all others are below it.
DO $$
DECLARE
  length bigint := 1;
  nodes bigint;
BEGIN
  WITH RECURSIVE up (uri, parent) AS (
    SELECT p.uri, p."replyParent" FROM skyfill.finalize_climb c JOIN post p ON p.uri = c.uri
    UNION
    SELECT q.uri, q."replyParent" FROM up
      CROSS JOIN LATERAL (SELECT q.uri, q."replyParent" FROM post q WHERE q.uri = up.parent OFFSET 0) q)
  INSERT INTO skyfill.finalize_up SELECT uri, nullif(parent, uri), skyfill.order_of(uri) FROM up;
  GET DIAGNOSTICS nodes = ROW_COUNT;
  UPDATE skyfill.finalize_up u SET jump = NULL
  WHERE jump IS NOT NULL AND NOT EXISTS (SELECT FROM skyfill.finalize_up v WHERE v.uri = u.jump);
  WHILE length < nodes AND EXISTS (SELECT FROM skyfill.finalize_up WHERE jump IS NOT NULL) LOOP
    UPDATE skyfill.finalize_up u SET jump = v.jump, least = least(u.least COLLATE "C", v.least COLLATE "C")
    FROM skyfill.finalize_up v WHERE v.uri = u.jump;
    length := length * 2;
  END LOOP;
  INSERT INTO skyfill.finalize_cycle
  SELECT uri, split_part(least, chr(1), 2) FROM skyfill.finalize_up
  WHERE uri IN (SELECT jump FROM skyfill.finalize_up);
  INSERT INTO skyfill.finalize_bad (uri) SELECT DISTINCT first FROM skyfill.finalize_cycle ON CONFLICT DO NOTHING;
END $$;
ANALYZE skyfill.finalize_bad
