-- Counts of quotes go by the CID that is quoted, whatever its URI.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
INSERT INTO skyfill.derived_quoted AS q
SELECT skyfill.key_of(cid, ''), subject, sum(quotes) FROM {from} GROUP BY cid, subject
ON CONFLICT (key, subject) DO UPDATE SET quotes = q.quotes + excluded.quotes;
-- The posts of which the last embed names a CID with another count, and those that are embedded
-- second.
INSERT INTO skyfill.finalize_requote
SELECT q.subject FROM (SELECT DISTINCT skyfill.key_of(other, '') AS key FROM skyfill.finalize_change WHERE kind = 'quote') c
  CROSS JOIN LATERAL (
    SELECT q.subject FROM skyfill.derived_quoted q WHERE q.key = c.key
    UNION ALL SELECT d.subject FROM skyfill.derived_second d WHERE d.key = c.key OFFSET 0) q
UNION ALL
SELECT d.subject FROM skyfill.finalize_post s
  CROSS JOIN LATERAL (SELECT d.subject FROM skyfill.derived_second d WHERE d.uri = s.uri OFFSET 0) d;
DELETE FROM skyfill.derived_quoted q USING (
  SELECT DISTINCT skyfill.key_of(other, '') AS key FROM skyfill.finalize_change WHERE kind = 'quote') c
WHERE q.key = c.key AND q.quotes = 0;
ANALYZE skyfill.finalize_bad, skyfill.finalize_gate, skyfill.finalize_listed, skyfill.finalize_hidden, skyfill.finalize_mention, skyfill.finalize_barred
