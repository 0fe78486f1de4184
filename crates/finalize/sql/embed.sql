embed AS (
  -- The quotes of a post: those of the CID that the last post to embed it names. Mostly all of them
  -- name the same one.
  SELECT e.subject, coalesce((SELECT sum(q.quotes) FROM skyfill.derived_quoted q WHERE q.key = e.key), 0) AS quotes
  FROM (
    SELECT e.subject, CASE WHEN count(DISTINCT e.key) = 1 THEN (array_agg(e.key))[1] ELSE (
        SELECT l.key FROM (
          SELECT skyfill.key_of("subjectCid", '') AS key, uri FROM quote WHERE subject = e.subject
          UNION ALL SELECT key, uri FROM skyfill.derived_second WHERE subject = e.subject) l
        ORDER BY skyfill.order_of(l.uri) COLLATE "C" DESC LIMIT 1) END AS key
    FROM ({from}) e
    GROUP BY e.subject) e
)