-- A load may delete a post while a slice, which still sees it, writes its notifications. The load
-- cannot see those, so they are deleted once it is noted that the post is gone, or neither replies
-- nor quotes any more.
DELETE FROM notification WHERE id IN (
  SELECT n.id FROM {from}
    CROSS JOIN LATERAL (
      SELECT n.id FROM notification n WHERE n."recordUri" = scope.uri AND n.reason IN ('quote', 'reply') OFFSET 0) n
  WHERE {in} AND NOT EXISTS (
      SELECT FROM post p WHERE p.uri = scope.uri
        AND (p."replyParent" IS NOT NULL OR EXISTS (SELECT FROM quote q WHERE q.uri = p.uri OFFSET 0)) OFFSET 0))
