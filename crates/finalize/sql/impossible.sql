-- Whether a count that differences were added to fell below zero: then it was wrong before. A reply
-- that came since may be shut before its coming is counted, which is noted and added the next time.
SELECT EXISTS (
  SELECT FROM (
    SELECT key FROM skyfill.finalize_change WHERE kind IN ('like', 'reply', 'repost')
    UNION SELECT key FROM skyfill.finalize_difference) c
    CROSS JOIN LATERAL (
      SELECT a.* FROM post_agg a WHERE a.uri = c.key AND least(a."likeCount", a."replyCount", a."repostCount") < 0 OFFSET 0) a
    LEFT JOIN ({noted}) noted ON noted.key = c.key
  WHERE least(a."likeCount", a."repostCount", a."replyCount" + coalesce(noted.replies, 0)) < 0
) OR EXISTS (
  SELECT FROM (SELECT DISTINCT key FROM skyfill.finalize_change WHERE kind IN ('follower', 'following', 'posts')) c
    CROSS JOIN LATERAL (
      SELECT FROM profile_agg a WHERE a.did = c.key AND least(a."followersCount", a."followsCount", a."postsCount") < 0 OFFSET 0) a)
