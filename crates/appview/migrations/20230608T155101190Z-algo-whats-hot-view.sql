create table "view_param" (
  "name" varchar primary key,
  "value" varchar
);
insert into "view_param" ("name", "value") values ('whats_hot_like_threshold', '2'), ('whats_hot_interval', '1day');
create materialized view "algo_whats_hot_view" as select "post"."uri" as "uri", "post"."cid" as "cid", round(1000000 * ("post_agg"."likeCount" / ((EXTRACT(epoch FROM AGE(now(), "post"."indexedAt"::timestamp)) / 3600 + 2) ^ 1.8))) as "score" from "post" inner join "post_agg" on "post_agg"."uri" = "post"."uri" where "post"."indexedAt" > (select to_char(now() - value::interval, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as "val" from "view_param" where "name" = 'whats_hot_interval') and "post"."replyParent" is null and "post_agg"."likeCount" > (select value::integer as "val" from "view_param" where "name" = 'whats_hot_like_threshold');
create unique index "algo_whats_hot_view_uri_idx" on "algo_whats_hot_view" ("uri");
create index "algo_whats_hot_view_cursor_idx" on "algo_whats_hot_view" ("score", "cid");
