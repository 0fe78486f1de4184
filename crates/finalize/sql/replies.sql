-- Finds replies that are invalid by themselves: the parent is missing (a like or repost counts as
-- missing); or it is the root and has a reply itself; or it has another root. spread.sql finds the
-- posts below them. Cycles and odd roots are only recorded here. OFFSET 0 makes the lookup of the
-- parent an index lookup; with a free join, all posts would be read for each slice.
WITH reply AS MATERIALIZED (
  SELECT p.uri, p."replyRoot" AS root, p."replyParent" AS parent, q.uri AS found, q."replyRoot" AS above
  FROM {from} LEFT JOIN LATERAL (SELECT q.uri, q."replyRoot" FROM post q WHERE q.uri = p."replyParent" OFFSET 0) q ON true
  WHERE {in} AND p."replyRoot" IS NOT NULL
), bad AS (
  INSERT INTO skyfill.finalize_bad (uri)
  SELECT reply.uri FROM reply LEFT JOIN LATERAL (
    SELECT skyfill.readable(r.json) AS json FROM record r
    WHERE reply.found IS NULL AND r.uri = reply.parent
      AND skyfill.collection_of(reply.parent) NOT IN ('app.bsky.feed.like', 'app.bsky.feed.repost')
    OFFSET 0) other ON true
  WHERE CASE
    WHEN found IS NOT NULL AND parent = root THEN above IS NOT NULL
    WHEN found IS NOT NULL THEN above IS DISTINCT FROM root
    WHEN other.json IS NULL THEN true
    WHEN parent = root THEN other.json -> 'reply' IS NOT NULL
    ELSE other.json -> 'reply' -> 'root' ->> 'uri' IS DISTINCT FROM root END
  ON CONFLICT DO NOTHING
), stray AS (
  INSERT INTO skyfill.derived_stray
  SELECT skyfill.key_of(root, ''), uri FROM reply WHERE parent IS DISTINCT FROM root AND (found IS NULL OR above IS DISTINCT FROM root)
), climb AS (
  INSERT INTO skyfill.finalize_climb
  SELECT uri FROM reply WHERE found <> uri AND skyfill.order_of(found) COLLATE "C" > skyfill.order_of(uri) COLLATE "C"
  ON CONFLICT DO NOTHING
)
-- A root that is not stored rules nothing, and may exceed the index entry limit.
INSERT INTO skyfill.finalize_root
SELECT root FROM (SELECT DISTINCT root FROM reply WHERE skyfill.collection_of(root) <> 'app.bsky.feed.post') odd
  CROSS JOIN LATERAL (SELECT FROM record r WHERE r.uri = odd.root OFFSET 0) stored
ORDER BY root
ON CONFLICT DO NOTHING
