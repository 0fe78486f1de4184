-- post_agg by difference: likes, replies and reposts that came and went are added to what is
-- stored, and quotes are counted where they changed. A row of zeros is kept while something of it
-- is there.
WITH {embed}, difference AS MATERIALIZED (
  SELECT key AS uri, sum(difference) FILTER (WHERE kind = 'like') AS likes, sum(difference) FILTER (WHERE kind = 'reply') AS replies,
    sum(difference) FILTER (WHERE kind = 'repost') AS reposts, bool_or(kind = 'quote') AS requoted
  FROM (
    SELECT kind, key, difference FROM skyfill.finalize_change WHERE kind IN ('like', 'reply', 'repost')
    UNION ALL SELECT kind, key, difference FROM skyfill.finalize_difference
    UNION ALL SELECT 'quote', uri, 0 FROM skyfill.finalize_requote) d
  GROUP BY key
), counted AS MATERIALIZED (
  SELECT d.uri, coalesce(a."likeCount", 0) + coalesce(d.likes, 0) AS likes, coalesce(a."replyCount", 0) + coalesce(d.replies, 0) AS replies,
    coalesce(a."repostCount", 0) + coalesce(d.reposts, 0) AS reposts,
    CASE WHEN d.requoted THEN coalesce(e.quotes, 0) ELSE coalesce(a."quoteCount", 0) END AS quotes, coalesce(a."bookmarkCount", 0) AS bookmarks
  FROM difference d
    LEFT JOIN LATERAL (SELECT * FROM post_agg a WHERE a.uri = d.uri OFFSET 0) a ON true
    LEFT JOIN embed e ON e.subject = d.uri
), wanted AS MATERIALIZED (
  SELECT c.*, (likes, replies, reposts, quotes) <> (0, 0, 0, 0)
    OR EXISTS (SELECT FROM post p WHERE p."replyParent" = c.uri)
    OR EXISTS (SELECT FROM quote q WHERE q.subject = c.uri)
    OR EXISTS (SELECT FROM skyfill.derived_second s WHERE s.subject = c.uri) AS is_there
  FROM counted c
), gone AS (
  DELETE FROM post_agg a USING wanted w WHERE a.uri = w.uri AND NOT w.is_there AND w.bookmarks = 0
)
INSERT INTO post_agg AS a (uri, "likeCount", "replyCount", "repostCount", "quoteCount")
SELECT uri, likes, replies, reposts, quotes FROM wanted WHERE is_there OR bookmarks <> 0
ON CONFLICT (uri) DO UPDATE SET "likeCount" = excluded."likeCount", "replyCount" = excluded."replyCount",
  "repostCount" = excluded."repostCount", "quoteCount" = excluded."quoteCount"
WHERE (a."likeCount", a."replyCount", a."repostCount", a."quoteCount")
  <> (excluded."likeCount", excluded."replyCount", excluded."repostCount", excluded."quoteCount")
