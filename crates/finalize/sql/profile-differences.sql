-- profile_agg by difference: follows and posts that came and went are added to what is stored.
WITH difference AS MATERIALIZED (
  SELECT key AS did, sum(difference) FILTER (WHERE kind = 'follower') AS followers,
    sum(difference) FILTER (WHERE kind = 'following') AS follows, sum(difference) FILTER (WHERE kind = 'posts') AS posts
  FROM skyfill.finalize_change WHERE kind IN ('follower', 'following', 'posts') GROUP BY key
), wanted AS MATERIALIZED (
  SELECT d.did, coalesce(a."followersCount", 0) + coalesce(d.followers, 0) AS followers,
    coalesce(a."followsCount", 0) + coalesce(d.follows, 0) AS follows, coalesce(a."postsCount", 0) + coalesce(d.posts, 0) AS posts
  FROM difference d LEFT JOIN LATERAL (SELECT * FROM profile_agg a WHERE a.did = d.did OFFSET 0) a ON true
), gone AS (
  DELETE FROM profile_agg a USING wanted w WHERE a.did = w.did AND (w.followers, w.follows, w.posts) = (0, 0, 0)
)
INSERT INTO profile_agg AS a (did, "followersCount", "followsCount", "postsCount")
SELECT did, followers, follows, posts FROM wanted WHERE (followers, follows, posts) <> (0, 0, 0)
ON CONFLICT (did) DO UPDATE SET "followersCount" = excluded."followersCount", "followsCount" = excluded."followsCount",
  "postsCount" = excluded."postsCount"
WHERE (a."followersCount", a."followsCount", a."postsCount")
  <> (excluded."followersCount", excluded."followsCount", excluded."postsCount")
