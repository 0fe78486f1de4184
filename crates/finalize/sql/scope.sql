-- Finds the posts whose flags or notifications may be others because of what changed. Each step is
-- an index lookup. First the records that changed, the roots of threads whose gate changed, the
-- strays of all these threads, and everything below, level by level: a reply is valid if its parent
-- is, it sees four ancestors, and a root's gate and mentions are for its whole thread. Because all
-- below is there, a cycle that appears or breaks is there as a whole.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
INSERT INTO skyfill.finalize_post (uri)
SELECT key FROM skyfill.finalize_change WHERE kind = 'record'
UNION SELECT skyfill.ruled_by(key) FROM skyfill.finalize_change WHERE kind = 'thread gate';
INSERT INTO skyfill.finalize_post (uri)
SELECT s.uri FROM skyfill.finalize_post r
  CROSS JOIN LATERAL (SELECT s.uri FROM skyfill.derived_stray s WHERE s.key = skyfill.key_of(r.uri, '') OFFSET 0) s
ON CONFLICT DO NOTHING;
DO $$
DECLARE
  level bigint := 0;
  top bigint;
BEGIN
  LOOP
    SELECT max(number) INTO top FROM skyfill.finalize_post;
    EXIT WHEN top IS NULL OR top = level;
    INSERT INTO skyfill.finalize_post (uri)
    SELECT p.uri FROM skyfill.finalize_post b
      CROSS JOIN LATERAL (SELECT p.uri FROM post p WHERE p."replyParent" = b.uri OFFSET 0) p
    WHERE b.number > level AND b.number <= top
    ON CONFLICT DO NOTHING;
    level := top;
  END LOOP;
END $$;
-- Then single posts: those that a gate names, those that embed a post whose gate changed, and those
-- that a gate judges by a follow or a list that changed.
INSERT INTO skyfill.finalize_post (uri)
SELECT other FROM skyfill.finalize_change WHERE kind IN ('thread gate', 'post gate')
UNION ALL
SELECT q.uri FROM skyfill.finalize_change c
  CROSS JOIN LATERAL (SELECT q.uri FROM quote q WHERE q.subject = skyfill.ruled_by(c.key) OFFSET 0) q
WHERE c.kind = 'post gate'
UNION ALL
SELECT s.uri FROM skyfill.finalize_change c
  CROSS JOIN LATERAL (SELECT s.uri FROM skyfill.derived_second s WHERE s.subject = skyfill.ruled_by(c.key) OFFSET 0) s
WHERE c.kind = 'post gate'
UNION ALL
SELECT g.uri FROM skyfill.finalize_change c
  CROSS JOIN LATERAL (VALUES (skyfill.key_of(c.key, c.other)), (skyfill.key_of(c.other, c.key))) pair (key)
  CROSS JOIN LATERAL (SELECT g.uri FROM skyfill.derived_gated g WHERE g.key = pair.key OFFSET 0) g
WHERE c.kind = 'follow'
UNION ALL
SELECT g.uri FROM skyfill.finalize_change c
  CROSS JOIN LATERAL (SELECT l.owner FROM skyfill.derived_list l WHERE l.key = skyfill.key_of(c.key, '') OFFSET 0) l
  CROSS JOIN LATERAL (SELECT g.uri FROM skyfill.derived_gated g WHERE g.key = skyfill.key_of(l.owner, c.other) OFFSET 0) g
WHERE c.kind = 'listed'
ON CONFLICT DO NOTHING;
-- A cycle is found from one of its members, so they are computed together.
INSERT INTO skyfill.finalize_post (uri)
SELECT m.uri FROM skyfill.finalize_post s
  CROSS JOIN LATERAL (SELECT c.first FROM skyfill.derived_cycle c WHERE c.uri = s.uri OFFSET 0) c
  CROSS JOIN LATERAL (SELECT m.uri FROM skyfill.derived_cycle m WHERE m.first = c.first OFFSET 0) m
ON CONFLICT DO NOTHING;
ANALYZE skyfill.finalize_post;
-- What is kept of these posts is found again by the stages.
INSERT INTO skyfill.finalize_requote
SELECT d.subject FROM skyfill.finalize_post s
  CROSS JOIN LATERAL (SELECT d.subject FROM skyfill.derived_second d WHERE d.uri = s.uri OFFSET 0) d;
DELETE FROM skyfill.derived_second d USING skyfill.finalize_post s WHERE d.uri = s.uri;
DELETE FROM skyfill.derived_cycle d USING skyfill.finalize_post s WHERE d.uri = s.uri;
DELETE FROM skyfill.derived_stray d USING skyfill.finalize_post s WHERE d.uri = s.uri;
DELETE FROM skyfill.derived_gated d USING skyfill.finalize_post s WHERE d.uri = s.uri;
SET LOCAL enable_hashjoin = on;
SET LOCAL enable_mergejoin = on
