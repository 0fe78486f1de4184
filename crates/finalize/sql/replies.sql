-- Finds replies that are invalid by themselves: the parent is missing (a like or repost counts as
-- missing); or it is the root and has a reply itself; or it has another root. spread.sql finds the
-- posts below them. Cycles and odd roots are only recorded here. OFFSET 0 makes the lookup of the
-- parent an index lookup; with a free join, all posts would be read for each slice.
WITH reply AS MATERIALIZED (
  SELECT p.uri, p."replyRoot" AS root, p."replyParent" AS parent, q.uri AS found, q."replyRoot" AS above
  FROM {from} LEFT JOIN LATERAL (SELECT q.uri, q."replyRoot" FROM post q WHERE q.uri = p."replyParent" OFFSET 0) q ON true
  WHERE {in} AND p."replyRoot" IS NOT NULL
), looked_up AS (
  -- A parent that is no post is read once, however many reply to it: its JSON may have megabytes.
  SELECT m.uri, m.root, m.parent, o.is_reply, o.above
  FROM (SELECT uri, root, parent, row_number() OVER (PARTITION BY parent) AS number FROM reply WHERE found IS NULL) m
  LEFT JOIN LATERAL (
    SELECT json -> 'reply' IS NOT NULL AS is_reply, json -> 'reply' -> 'root' ->> 'uri' AS above
    FROM (SELECT skyfill.readable(r.json) AS json FROM record r
          WHERE m.number = 1 AND r.uri = m.parent
            AND skyfill.collection_of(m.parent) NOT IN ('app.bsky.feed.like', 'app.bsky.feed.repost')
          OFFSET 0) r
    WHERE json IS NOT NULL OFFSET 0) o ON true
), bad AS (
  INSERT INTO skyfill.finalize_bad (uri)
  SELECT uri FROM reply
  WHERE found IS NOT NULL AND CASE WHEN parent = root THEN above IS NOT NULL ELSE above IS DISTINCT FROM root END
  UNION ALL
  SELECT uri FROM (
    SELECT uri, root, parent, bool_or(is_reply) OVER same AS is_reply, max(above) OVER same AS above
    FROM looked_up WINDOW same AS (PARTITION BY parent)) m
  WHERE CASE WHEN is_reply IS NULL THEN true WHEN parent = root THEN is_reply ELSE above IS DISTINCT FROM root END
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
