-- The five flags of posts; only those that differ are written.
WITH slice AS MATERIALIZED (
  SELECT p.uri, p.creator, p."replyRoot" AS root, p."replyParent" AS parent,
    p."violatesThreadGate" IS TRUE AS was_shut,
    ROW(p."invalidReplyRoot", p."violatesThreadGate", p."violatesEmbeddingRules", p."hasThreadGate", p."hasPostGate") AS stored
  FROM {from} WHERE {in}
), in_long AS MATERIALIZED (
  -- The accounts that one of many lists admits: by the lists that they are on, once per thread and
  -- account.
  SELECT r.root, r.creator FROM (
    SELECT DISTINCT s.root, s.creator FROM slice s JOIN skyfill.finalize_gate g ON g.root = s.root AND g.is_long) r
  WHERE EXISTS (
    SELECT FROM (SELECT l."listUri" AS list FROM list_item l WHERE l."subjectDid" = r.creator OFFSET 0) l
    WHERE EXISTS (SELECT FROM skyfill.finalize_listed k WHERE k.key = skyfill.key_of(r.root, l.list)))
), verdict AS MATERIALIZED (
  SELECT s.uri, s.root, s.parent, s.creator, s.stored, s.was_shut, b.uri IS NOT NULL AS invalid,
    g.root IS NOT NULL AND s.creator <> skyfill.host_of(s.root)
      AND NOT (g.mentioned AND EXISTS (SELECT FROM skyfill.finalize_mention m WHERE m.key = skyfill.key_of(s.root, s.creator)))
      AND NOT (g.followers AND EXISTS (SELECT FROM follow f WHERE f.creator = s.creator AND f."subjectDid" = skyfill.host_of(s.root)))
      AND NOT (g.followed AND EXISTS (SELECT FROM follow f WHERE f.creator = skyfill.host_of(s.root) AND f."subjectDid" = s.creator))
      AND NOT EXISTS (SELECT FROM list_item l WHERE l."listUri" = ANY (g.lists) AND l."subjectDid" = s.creator)
      AND i.root IS NULL AS shut,
    g.root IS NOT NULL AND s.creator <> skyfill.host_of(s.root)
      AND (g.followers OR g.followed OR g.is_long OR g.lists <> '{}') AS is_judged,
    CASE WHEN EXISTS (SELECT FROM skyfill.finalize_barred e WHERE e.uri = s.uri) THEN true END AS barred,
    CASE WHEN EXISTS (SELECT FROM thread_gate t WHERE t."postUri" = s.uri) THEN true END AS thread_gate,
    CASE WHEN EXISTS (SELECT FROM post_gate t WHERE t."postUri" = s.uri) THEN true END AS post_gate
  FROM slice s LEFT JOIN skyfill.finalize_bad b ON b.uri = s.uri LEFT JOIN skyfill.finalize_gate g ON g.root = s.root
    LEFT JOIN in_long i ON i.root = s.root AND i.creator = s.creator
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
  FROM wanted w WHERE post.uri = w.uri
  RETURNING post."replyParent" AS parent, w.was_shut, w.shut IS TRUE AS is_shut
)
-- A reply that a gate does not admit is not counted.
INSERT INTO skyfill.finalize_difference
SELECT 'reply', parent, was_shut::int - is_shut::int FROM changed WHERE was_shut <> is_shut AND parent IS NOT NULL
