embed AS (
  -- The quotes of a post, as far as an index finds them: those that name it with the CID that the
  -- last post to embed it names.
  SELECT l.subject, (SELECT count(*) FROM quote q WHERE q.subject = l.subject AND q."subjectCid" = l.cid) AS quotes
  FROM (
    SELECT DISTINCT ON (q.subject) q.subject, q."subjectCid" AS cid FROM quote q WHERE {in q.subject}
    ORDER BY q.subject, skyfill.order_of(q.uri) COLLATE "C" DESC) l
)