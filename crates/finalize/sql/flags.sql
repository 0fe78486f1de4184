-- The five flags of posts; only those that differ are written, in the order in which a merge
-- deletes posts: locked in two orders, they would be a deadlock. OFFSET 0 makes each lookup an
-- index lookup; with a free join, the work tables, some 30 million rows each, would be read for
-- each slice.
WITH slice AS MATERIALIZED (
  SELECT p.uri, p.creator, p."replyRoot" AS root, p."replyParent" AS parent,
    p."violatesThreadGate" IS TRUE AS was_shut,
    ROW(p."invalidReplyRoot", p."violatesThreadGate", p."violatesEmbeddingRules", p."hasThreadGate", p."hasPostGate") AS stored,
    g.root IS NOT NULL AND p.creator <> skyfill.host_of(p."replyRoot") AS is_gated,
    g.mentioned, g.followers, g.followed, g.lists, g.is_long
  FROM {from} LEFT JOIN LATERAL (
    SELECT g.* FROM skyfill.finalize_gate g WHERE g.root = p."replyRoot" OFFSET 0) g ON true
  WHERE {in}
), in_long AS MATERIALIZED (
  -- The accounts that one of many lists admits: by the lists that they are on, once per thread and
  -- account.
  SELECT r.root, r.creator FROM (SELECT DISTINCT s.root, s.creator FROM slice s WHERE s.is_long) r
  WHERE EXISTS (
    SELECT FROM (SELECT l."listUri" AS list FROM list_item l WHERE l."subjectDid" = r.creator OFFSET 0) l
    WHERE EXISTS (SELECT FROM skyfill.finalize_listed k WHERE k.key = skyfill.key_of(r.root, l.list) OFFSET 0) OFFSET 0)
), verdict AS MATERIALIZED (
  SELECT s.uri, s.root, s.parent, s.creator, s.stored, s.was_shut,
    EXISTS (SELECT FROM skyfill.finalize_bad b WHERE b.uri = s.uri OFFSET 0) AS invalid,
    s.is_gated
      AND NOT (s.mentioned AND EXISTS (
        SELECT FROM skyfill.finalize_mention m WHERE m.key = skyfill.key_of(s.root, s.creator) OFFSET 0))
      AND NOT (s.followers AND EXISTS (
        SELECT FROM follow f WHERE f.creator = s.creator AND f."subjectDid" = skyfill.host_of(s.root) OFFSET 0))
      AND NOT (s.followed AND EXISTS (
        SELECT FROM follow f WHERE f.creator = skyfill.host_of(s.root) AND f."subjectDid" = s.creator OFFSET 0))
      AND NOT EXISTS (SELECT FROM list_item l WHERE l."listUri" = ANY (s.lists) AND l."subjectDid" = s.creator OFFSET 0)
      AND i.root IS NULL AS shut,
    s.is_gated AND (s.followers OR s.followed OR s.is_long OR s.lists <> '{}') AS is_judged,
    CASE WHEN EXISTS (SELECT FROM skyfill.finalize_barred e WHERE e.uri = s.uri OFFSET 0) THEN true END AS barred,
    CASE WHEN EXISTS (SELECT FROM thread_gate t WHERE t."postUri" = s.uri OFFSET 0) THEN true END AS thread_gate,
    CASE WHEN EXISTS (SELECT FROM post_gate t WHERE t."postUri" = s.uri OFFSET 0) THEN true END AS post_gate
  FROM slice s LEFT JOIN in_long i ON i.root = s.root AND i.creator = s.creator
), shut AS (
  INSERT INTO skyfill.finalize_shut SELECT uri, parent FROM verdict WHERE shut ON CONFLICT DO NOTHING
), judged AS (
  INSERT INTO skyfill.derived_gated SELECT skyfill.key_of(skyfill.host_of(root), creator), uri FROM verdict WHERE is_judged
), wanted AS MATERIALIZED (
  SELECT uri, was_shut, CASE WHEN invalid OR shut THEN invalid END AS invalid, CASE WHEN invalid OR shut THEN shut END AS shut,
    barred, thread_gate, post_gate
  FROM verdict
  WHERE stored IS DISTINCT FROM
    ROW(CASE WHEN invalid OR shut THEN invalid END, CASE WHEN invalid OR shut THEN shut END, barred, thread_gate, post_gate)
), changed AS (
  UPDATE post SET "invalidReplyRoot" = w.invalid, "violatesThreadGate" = w.shut, "violatesEmbeddingRules" = w.barred,
    "hasThreadGate" = w.thread_gate, "hasPostGate" = w.post_gate
  FROM (SELECT * FROM wanted ORDER BY uri) w WHERE post.uri = w.uri
  RETURNING post."replyParent" AS parent, w.was_shut, w.shut IS TRUE AS is_shut
)
-- A reply that a gate does not admit is not counted.
INSERT INTO skyfill.finalize_difference
SELECT 'reply', parent, was_shut::int - is_shut::int FROM changed WHERE was_shut <> is_shut AND parent IS NOT NULL
