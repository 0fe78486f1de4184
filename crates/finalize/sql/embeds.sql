-- Embedded posts: those that may not be embedded, and those that are the second of their post.
WITH embed AS MATERIALIZED (
  SELECT e."postUri" AS uri, e."embedUri" AS subject, e."embedCid" AS cid, q.subject <> e."embedUri" AS second,
    skyfill.host_of(e."postUri") <> skyfill.host_of(e."embedUri")
      AND EXISTS (SELECT FROM skyfill.finalize_disabled d WHERE d.uri = e."embedUri" OFFSET 0) AS barred
  FROM {from} CROSS JOIN LATERAL (SELECT q.subject FROM quote q WHERE q.uri = e."postUri" OFFSET 0) q
  WHERE {in} AND skyfill.collection_of(e."embedUri") = 'app.bsky.feed.post'
), second AS (
  INSERT INTO skyfill.derived_second SELECT uri, subject, skyfill.key_of(cid, '') FROM embed WHERE second ON CONFLICT DO NOTHING
)
INSERT INTO skyfill.finalize_barred SELECT uri, second FROM embed WHERE barred ON CONFLICT DO NOTHING
