-- Posts whose gate lets nobody else embed them.
INSERT INTO skyfill.finalize_disabled
SELECT skyfill.ruled_by(t.uri) FROM {from} CROSS JOIN LATERAL (SELECT r.json FROM record r WHERE r.uri = t.uri OFFSET 0) r
WHERE {in} AND EXISTS (
  SELECT FROM skyfill.items(skyfill.readable(r.json) -> 'embeddingRules') rule
  WHERE rule ->> '$type' = 'app.bsky.feed.postgate#disableRule')
ON CONFLICT DO NOTHING
