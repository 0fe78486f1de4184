-- What finalize keeps for the next time, so that it can find what a change concerns. The AppView's
-- tables have no index for these questions. All of it follows from the AppView's tables; it is made
-- anew whenever everything is computed.

-- Members of reply cycles, with the first member of their cycle.
CREATE TABLE skyfill.derived_cycle (uri text PRIMARY KEY, first text NOT NULL);
CREATE INDEX ON skyfill.derived_cycle (first);
-- Replies that cannot be reached by walking down from the root that they name, by key_of that root:
-- those whose parent is not in the thread. Everything else of a thread is below its root or below
-- one of these.
CREATE TABLE skyfill.derived_stray (key bytea NOT NULL, uri text NOT NULL);
CREATE INDEX ON skyfill.derived_stray (key);
CREATE INDEX ON skyfill.derived_stray (uri);
-- Replies that a gate judges by follows or lists, by key_of the thread's owner and the replier.
CREATE TABLE skyfill.derived_gated (key bytea NOT NULL, uri text NOT NULL);
CREATE INDEX ON skyfill.derived_gated (key);
CREATE INDEX ON skyfill.derived_gated (uri);
-- Owners of threads whose gates name a list, by key_of the list.
CREATE TABLE skyfill.derived_list (key bytea NOT NULL, owner text NOT NULL, PRIMARY KEY (key, owner));
-- Posts that embed a second post; the first one is in `quote`.
-- The CID that they name is there as key_of with nothing: no index of the AppView bounds it.
CREATE TABLE skyfill.derived_second (uri text PRIMARY KEY, subject text NOT NULL, key bytea NOT NULL);
CREATE INDEX ON skyfill.derived_second (subject);
CREATE INDEX ON skyfill.derived_second (key);
-- How many quotes name a CID (in the same form) together with a post.
CREATE TABLE skyfill.derived_quoted (key bytea NOT NULL, subject text NOT NULL, quotes bigint NOT NULL, PRIMARY KEY (key, subject));
CREATE INDEX ON skyfill.derived_quoted (subject)
