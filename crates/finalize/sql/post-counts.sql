-- post_agg for a range of URIs. Replies that a gate does not admit are not counted; a row of zeros
-- is kept. Bookmark counts do not belong to repos and are left alone.
WITH {embed}, part AS (
  SELECT subject AS uri, count(*) AS likes, 0 AS replies, 0 AS reposts, 0 AS quotes FROM "like" WHERE {in subject} GROUP BY 1
  UNION ALL SELECT "replyParent", 0, count(*), 0, 0 FROM post WHERE {in "replyParent"} GROUP BY 1
  UNION ALL SELECT parent, 0, -count(*), 0, 0 FROM {shut} WHERE {in parent} GROUP BY 1
  UNION ALL SELECT subject, 0, 0, count(*), 0 FROM repost WHERE {in subject} GROUP BY 1
  UNION ALL SELECT subject, 0, 0, 0, quotes FROM embed
), counted AS MATERIALIZED (
  SELECT uri, sum(likes) AS likes, sum(replies) AS replies, sum(reposts) AS reposts, sum(quotes) AS quotes
  FROM part WHERE uri IS NOT NULL GROUP BY 1
), gone AS (
  DELETE FROM post_agg a WHERE {in a.uri} AND a."bookmarkCount" = 0 AND NOT EXISTS (SELECT FROM counted c WHERE c.uri = a.uri)
), emptied AS (
  UPDATE post_agg a SET "likeCount" = 0, "replyCount" = 0, "repostCount" = 0, "quoteCount" = 0
  WHERE {in a.uri} AND a."bookmarkCount" <> 0 AND NOT EXISTS (SELECT FROM counted c WHERE c.uri = a.uri)
    AND (a."likeCount", a."replyCount", a."repostCount", a."quoteCount") <> (0, 0, 0, 0)
)
INSERT INTO post_agg AS a (uri, "likeCount", "replyCount", "repostCount", "quoteCount")
SELECT uri, likes, replies, reposts, quotes FROM counted
ON CONFLICT (uri) DO UPDATE SET "likeCount" = excluded."likeCount", "replyCount" = excluded."replyCount",
  "repostCount" = excluded."repostCount", "quoteCount" = excluded."quoteCount"
WHERE (a."likeCount", a."replyCount", a."repostCount", a."quoteCount")
  <> (excluded."likeCount", excluded."replyCount", excluded."repostCount", excluded."quoteCount")
