-- The rules of thread gates, by the root that they rule. A root that is no post is its own gate.
CREATE TEMPORARY TABLE source ON COMMIT DROP AS
SELECT g.root, skyfill.readable(r.json) AS rules FROM ({from}) g
  CROSS JOIN LATERAL (SELECT r.json FROM record r WHERE r.uri = g.uri OFFSET 0) r;
INSERT INTO skyfill.finalize_gate
SELECT s.root,
  coalesce(bool_or(a ->> '$type' = 'app.bsky.feed.threadgate#mentionRule'), false),
  coalesce(bool_or(a ->> '$type' = 'app.bsky.feed.threadgate#followerRule'), false),
  coalesce(bool_or(a ->> '$type' = 'app.bsky.feed.threadgate#followingRule'), false),
  CASE WHEN count(*) <= 8 THEN
    coalesce(array_agg(a ->> 'list') FILTER (WHERE a ->> '$type' = 'app.bsky.feed.threadgate#listRule'), '{}') ELSE '{}' END,
  count(*) > 8
FROM source s LEFT JOIN LATERAL skyfill.items(s.rules -> 'allow') a ON true
WHERE json_typeof(s.rules -> 'allow') = 'array'
GROUP BY s.root
ON CONFLICT DO NOTHING;
INSERT INTO skyfill.finalize_listed
SELECT DISTINCT skyfill.key_of(s.root, a ->> 'list')
FROM source s JOIN skyfill.finalize_gate g ON g.root = s.root AND g.is_long, skyfill.items(s.rules -> 'allow') a
WHERE a ->> '$type' = 'app.bsky.feed.threadgate#listRule' AND a ->> 'list' IS NOT NULL
ON CONFLICT DO NOTHING;
-- In one order, since slices may have the same lists.
INSERT INTO skyfill.derived_list
SELECT DISTINCT skyfill.key_of(a ->> 'list', ''), skyfill.host_of(s.root) FROM source s, skyfill.items(s.rules -> 'allow') a
WHERE a ->> '$type' = 'app.bsky.feed.threadgate#listRule' AND a ->> 'list' IS NOT NULL
ORDER BY 1, 2
ON CONFLICT DO NOTHING;
INSERT INTO skyfill.finalize_hidden
SELECT DISTINCT skyfill.key_of(s.root, h #>> '{}') FROM source s, skyfill.items(s.rules -> 'hiddenReplies') h
WHERE h #>> '{}' IS NOT NULL
ON CONFLICT DO NOTHING;
INSERT INTO skyfill.finalize_mention
SELECT DISTINCT skyfill.key_of(s.root, feature ->> 'did')
FROM source s JOIN skyfill.finalize_gate g ON g.root = s.root AND g.mentioned
  CROSS JOIN LATERAL (SELECT r.json FROM record r WHERE r.uri = s.root OFFSET 0) r,
  skyfill.items(skyfill.readable(r.json) -> 'facets') facet, skyfill.items(facet -> 'features') feature
WHERE skyfill.collection_of(s.root) NOT IN ('app.bsky.feed.like', 'app.bsky.feed.repost')
  AND feature ->> '$type' = 'app.bsky.richtext.facet#mention' AND feature ->> 'did' IS NOT NULL
ON CONFLICT DO NOTHING
