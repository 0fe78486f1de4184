-- Posts whose gate lets nobody else embed them.
INSERT INTO skyfill.finalize_disabled
SELECT skyfill.ruled_by(t.uri) FROM post_gate t JOIN record r ON r.uri = t.uri
WHERE {in t.ctid} AND EXISTS (
  SELECT FROM skyfill.items(skyfill.readable(r.json) -> 'embeddingRules') rule
  WHERE rule ->> '$type' = 'app.bsky.feed.postgate#disableRule')
ON CONFLICT DO NOTHING
