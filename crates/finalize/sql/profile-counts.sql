-- profile_agg of a range of DIDs. All posts count.
WITH part AS (
  SELECT creator AS did, 0 AS followers, 0 AS follows, count(*) AS posts FROM post WHERE {in creator} GROUP BY 1
  UNION ALL SELECT "subjectDid", count(*), 0, 0 FROM follow WHERE {in "subjectDid"} GROUP BY 1
  UNION ALL SELECT creator, 0, count(*), 0 FROM follow WHERE {in creator} GROUP BY 1
), counted AS MATERIALIZED (
  SELECT did, sum(followers) AS followers, sum(follows) AS follows, sum(posts) AS posts FROM part GROUP BY 1
), gone AS (
  DELETE FROM profile_agg a WHERE {in a.did} AND NOT EXISTS (SELECT FROM counted c WHERE c.did = a.did)
)
INSERT INTO profile_agg AS a (did, "followersCount", "followsCount", "postsCount")
SELECT did, followers, follows, posts FROM counted
ON CONFLICT (did) DO UPDATE SET "followersCount" = excluded."followersCount", "followsCount" = excluded."followsCount",
  "postsCount" = excluded."postsCount"
WHERE (a."followersCount", a."followsCount", a."postsCount")
  <> (excluded."followersCount", excluded."followsCount", excluded."postsCount")
