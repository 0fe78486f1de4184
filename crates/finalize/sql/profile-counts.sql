-- profile_agg of a range of DIDs. All posts count. What is stored is grouped with what is counted,
-- as in post-counts.sql.
WITH part AS (
  SELECT creator AS did, 0 AS followers, 0 AS follows, count(*) AS posts, true AS is_there FROM post WHERE {in creator} GROUP BY 1
  UNION ALL SELECT "subjectDid", count(*), 0, 0, true FROM follow WHERE {in "subjectDid"} GROUP BY 1
  UNION ALL SELECT creator, 0, count(*), 0, true FROM follow WHERE {in creator} GROUP BY 1
  UNION ALL SELECT did, 0, 0, 0, false FROM profile_agg WHERE {in did}
), counted AS MATERIALIZED (
  SELECT did, sum(followers) AS followers, sum(follows) AS follows, sum(posts) AS posts, bool_or(is_there) AS is_there FROM part GROUP BY 1
), gone AS (
  DELETE FROM profile_agg a WHERE a.did = ANY (ARRAY(SELECT did FROM counted WHERE NOT is_there))
)
INSERT INTO profile_agg AS a (did, "followersCount", "followsCount", "postsCount")
SELECT did, followers, follows, posts FROM counted WHERE is_there
ON CONFLICT (did) DO UPDATE SET "followersCount" = excluded."followersCount", "followsCount" = excluded."followsCount",
  "postsCount" = excluded."postsCount"
WHERE (a."followersCount", a."followsCount", a."postsCount")
  <> (excluded."followersCount", excluded."followsCount", excluded."postsCount")
