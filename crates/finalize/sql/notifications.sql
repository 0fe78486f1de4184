-- Notifications of quotes and replies: one per recipient and post. A mention (which is stored
-- already) comes before a quote, a quote before a reply, and the nearest ancestor first. The walk
-- up ends after four ancestors, after the first member of a cycle, and after a hidden reply, even
-- if its author was notified already. OFFSET 0 makes each lookup an index lookup; with a free join,
-- whole tables would be read for each slice.
WITH slice AS MATERIALIZED (
  SELECT p.uri, p.cid, p.creator, p."replyRoot" AS root, p."replyParent" AS parent, p."sortAt" AS sort_at,
    p."violatesThreadGate" IS NOT TRUE AS open, c.first, q.subject AS quoted, e.subject AS quoted_too,
    EXISTS (SELECT FROM skyfill.finalize_barred b WHERE b.uri = p.uri AND b.second = (e.uri IS NOT NULL) OFFSET 0) AS barred
  FROM {from} LEFT JOIN LATERAL (SELECT q.uri, q.subject FROM quote q WHERE q.uri = p.uri OFFSET 0) q ON true
    LEFT JOIN LATERAL (SELECT e.uri, e.subject FROM skyfill.derived_second e WHERE e.uri = p.uri OFFSET 0) e ON true
    LEFT JOIN LATERAL (SELECT c.first FROM skyfill.derived_cycle c WHERE c.uri = p.uri OFFSET 0) c ON true
  WHERE {in} AND (p."replyParent" IS NOT NULL OR q.uri IS NOT NULL)
), walk AS (
  SELECT s.uri, s.root, a1.uri AS u1, a2.uri AS u2, a3.uri AS u3, a4.uri AS u4
  FROM slice s
    CROSS JOIN LATERAL (
      SELECT p.uri, p."replyParent" FROM post p WHERE p.uri = s.parent AND s.uri IS DISTINCT FROM s.first OFFSET 0) a1
    LEFT JOIN LATERAL (
      SELECT p.uri, p."replyParent" FROM post p WHERE p.uri = a1."replyParent" AND a1.uri IS DISTINCT FROM s.first OFFSET 0) a2 ON true
    LEFT JOIN LATERAL (
      SELECT p.uri, p."replyParent" FROM post p WHERE p.uri = a2."replyParent" AND a2.uri IS DISTINCT FROM s.first OFFSET 0) a3 ON true
    LEFT JOIN LATERAL (
      SELECT p.uri FROM post p WHERE p.uri = a3."replyParent" AND a3.uri IS DISTINCT FROM s.first OFFSET 0) a4 ON true
  WHERE s.open
), ancestor AS (
  SELECT w.uri, a.height, a.ancestor, min(a.height) FILTER (WHERE h.key IS NOT NULL) OVER (PARTITION BY w.uri) AS last
  FROM walk w CROSS JOIN LATERAL (VALUES (1, u1), (2, u2), (3, u3), (4, u4)) a (height, ancestor)
    LEFT JOIN LATERAL (
      SELECT h.key FROM skyfill.finalize_hidden h WHERE h.key = skyfill.key_of(w.root, a.ancestor) OFFSET 0) h ON true
  WHERE a.ancestor <> w.uri
), candidate AS (
  SELECT uri, skyfill.host_of(quoted) AS did, 'quote' AS reason, quoted AS subject, 1 AS rank FROM slice
  WHERE quoted IS NOT NULL AND NOT barred
  UNION ALL
  SELECT uri, skyfill.host_of(quoted_too), 'quote', quoted_too, 2 FROM slice WHERE quoted_too IS NOT NULL AND NOT barred
  UNION ALL
  SELECT uri, skyfill.host_of(ancestor), 'reply', ancestor, 2 + height FROM ancestor WHERE last IS NULL OR height <= last
), told AS MATERIALIZED (
  SELECT n.id, s.uri, n.did, n.reason, n.subject, n.cid, row_number() OVER (PARTITION BY s.uri, n.did, n.reason ORDER BY n.id) AS times
  FROM slice s CROSS JOIN LATERAL (
    SELECT n.id, n.did, n.reason, n."reasonSubject" AS subject, n."recordCid" AS cid FROM notification n WHERE n."recordUri" = s.uri OFFSET 0) n
), wanted AS MATERIALIZED (
  SELECT DISTINCT ON (c.uri, c.did) c.uri, s.cid, s.creator, s.sort_at, c.did, c.reason, c.subject
  FROM candidate c JOIN slice s ON s.uri = c.uri
  WHERE c.did <> s.creator AND {notified}
    AND NOT EXISTS (SELECT FROM told t WHERE t.uri = c.uri AND t.did = c.did AND t.reason = 'mention')
  ORDER BY c.uri, c.did, c.rank
), taken_back AS (
  DELETE FROM notification WHERE id IN (
    SELECT id FROM told t WHERE t.reason IN ('quote', 'reply') AND (t.times > 1 OR NOT EXISTS (
      SELECT FROM wanted w WHERE w.uri = t.uri AND w.cid = t.cid AND w.did = t.did AND w.reason = t.reason AND w.subject = t.subject)))
)
INSERT INTO notification (did, "recordUri", "recordCid", author, reason, "reasonSubject", "sortAt")
SELECT w.did, w.uri, w.cid, w.creator, w.reason, w.subject, w.sort_at FROM wanted w
WHERE NOT EXISTS (
  SELECT FROM told t WHERE t.uri = w.uri AND t.cid = w.cid AND t.did = w.did AND t.reason = w.reason AND t.subject = w.subject)
  -- The only filter of the official indexer (indexing/processor.ts): threads that the recipient
  -- muted.
  AND NOT EXISTS (
    SELECT FROM thread_mute m JOIN post p ON m."rootUri" = coalesce(p."replyRoot", p.uri)
    WHERE m."mutedByDid" = w.did AND p.uri = w.subject OFFSET 0)
