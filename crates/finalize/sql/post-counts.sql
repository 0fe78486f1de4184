-- post_agg for a range of URIs. Replies that a gate does not admit are not counted; a row of zeros
-- is kept. Bookmark counts do not belong to repos and are left alone. What is stored is grouped
-- with what is counted: a join of the two could become a nested loop over both.
WITH {embed}, part AS (
  SELECT subject AS uri, count(*) AS likes, 0 AS replies, 0 AS reposts, 0 AS quotes, true AS is_there FROM "like" WHERE {in subject} GROUP BY 1
  UNION ALL SELECT "replyParent", 0, count(*), 0, 0, true FROM post WHERE {in "replyParent"} GROUP BY 1
  UNION ALL SELECT parent, 0, -count(*), 0, 0, true FROM {shut} WHERE {in parent} GROUP BY 1
  UNION ALL SELECT subject, 0, 0, count(*), 0, true FROM repost WHERE {in subject} GROUP BY 1
  UNION ALL SELECT subject, 0, 0, 0, quotes, true FROM embed
  UNION ALL SELECT uri, 0, 0, 0, 0, false FROM post_agg WHERE {in uri}
), counted AS MATERIALIZED (
  SELECT uri, sum(likes) AS likes, sum(replies) AS replies, sum(reposts) AS reposts, sum(quotes) AS quotes, bool_or(is_there) AS is_there
  FROM part WHERE uri IS NOT NULL GROUP BY 1
), gone AS (
  DELETE FROM post_agg a WHERE a."bookmarkCount" = 0 AND a.uri = ANY (ARRAY(SELECT uri FROM counted WHERE NOT is_there))
), emptied AS (
  UPDATE post_agg a SET "likeCount" = 0, "replyCount" = 0, "repostCount" = 0, "quoteCount" = 0
  WHERE a."bookmarkCount" <> 0 AND a.uri = ANY (ARRAY(SELECT uri FROM counted WHERE NOT is_there))
    AND (a."likeCount", a."replyCount", a."repostCount", a."quoteCount") <> (0, 0, 0, 0)
)
INSERT INTO post_agg AS a (uri, "likeCount", "replyCount", "repostCount", "quoteCount")
SELECT uri, likes, replies, reposts, quotes FROM counted WHERE is_there
ON CONFLICT (uri) DO UPDATE SET "likeCount" = excluded."likeCount", "replyCount" = excluded."replyCount",
  "repostCount" = excluded."repostCount", "quoteCount" = excluded."quoteCount"
WHERE (a."likeCount", a."replyCount", a."repostCount", a."quoteCount")
  <> (excluded."likeCount", excluded."replyCount", excluded."repostCount", excluded."quoteCount")
