-- Whatever replies to an invalid reply is invalid. Each post is reached once: the walk stops at what is known already. Each
-- step is one by index: joined freely, all posts would be read again for each step of the walk.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
WITH RECURSIVE below (uri) AS (
  SELECT uri FROM skyfill.finalize_bad WHERE {in number}
  UNION
  SELECT p.uri FROM below
    CROSS JOIN LATERAL (SELECT p.uri FROM post p WHERE p."replyParent" = below.uri OFFSET 0) p
  WHERE NOT EXISTS (SELECT FROM skyfill.finalize_bad b WHERE b.uri = p.uri))
INSERT INTO skyfill.finalize_bad (uri)
SELECT uri FROM below WHERE NOT EXISTS (SELECT FROM skyfill.finalize_bad b WHERE b.uri = below.uri)
ON CONFLICT DO NOTHING
