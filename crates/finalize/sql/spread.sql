-- Whatever replies to an invalid reply is invalid. Each post is reached once: the walk stops at what is known already. Hash joins
-- would read all posts again for each step of the walk.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
WITH RECURSIVE below (uri) AS (
  SELECT uri FROM skyfill.finalize_bad WHERE {in number}
  UNION
  SELECT p.uri FROM below JOIN post p ON p."replyParent" = below.uri
  WHERE NOT EXISTS (SELECT FROM skyfill.finalize_bad b WHERE b.uri = p.uri))
INSERT INTO skyfill.finalize_bad (uri)
SELECT uri FROM below WHERE NOT EXISTS (SELECT FROM skyfill.finalize_bad b WHERE b.uri = below.uri)
ON CONFLICT DO NOTHING
