-- Work tables of finalize; work_tables.rs says when they are made. Between two runs they are
-- empty.

-- Replies with an invalid root, numbered so that their spread can be sliced.
CREATE TABLE skyfill.finalize_bad (uri text PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY UNIQUE);
-- Replies that come before their parents by (rkey, URI). Every cycle has one.
CREATE TABLE skyfill.finalize_climb (uri text PRIMARY KEY);
-- The posts above those, while cycles are looked for.
CREATE TABLE skyfill.finalize_up (uri text PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY UNIQUE, jump text,
  least text NOT NULL);
-- Roots of threads that are not posts.
CREATE TABLE skyfill.finalize_root (uri text PRIMARY KEY);
-- Rules of threads to which not everybody may reply. A thread gate has at most five lists. A root
-- that is its own gate may have any number: then `lists` is empty, and they are in finalize_listed.
CREATE TABLE skyfill.finalize_gate (root text PRIMARY KEY, mentioned boolean NOT NULL, followers boolean NOT NULL,
  followed boolean NOT NULL, lists text[] NOT NULL, is_long boolean NOT NULL);
-- Root and list of gates with many lists, by key_of.
CREATE TABLE skyfill.finalize_listed (key bytea PRIMARY KEY);
-- Root and URI of the replies that a thread's gate hides, by key_of.
CREATE TABLE skyfill.finalize_hidden (key bytea PRIMARY KEY);
-- Root and DID of the accounts that a root mentions, where that matters, by key_of.
CREATE TABLE skyfill.finalize_mention (key bytea PRIMARY KEY);
-- Posts that nobody else may embed.
CREATE TABLE skyfill.finalize_disabled (uri text PRIMARY KEY);
-- Posts that embed one of those.
CREATE TABLE skyfill.finalize_barred (uri text, second boolean, PRIMARY KEY (uri, second));
-- Replies that a gate does not admit.
CREATE TABLE skyfill.finalize_shut (uri text PRIMARY KEY, parent text NOT NULL);
CREATE INDEX ON skyfill.finalize_shut (parent);
-- Replies that were counted and are no longer, or the reverse: what post_agg has to follow.
CREATE TABLE skyfill.finalize_difference (kind text NOT NULL, key text NOT NULL, difference bigint NOT NULL);

-- The rest is for the scope of what changed. What the loads noted, see the module `changes` of the
-- crate `ledger`.
CREATE TABLE skyfill.finalize_change (kind text NOT NULL, key text NOT NULL, other text, difference bigint NOT NULL);
-- The posts that are computed again, numbered so that they can be sliced. Not all are stored.
CREATE TABLE skyfill.finalize_post (uri text PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY UNIQUE);
-- Posts whose quotes are counted again.
CREATE TABLE skyfill.finalize_requote (uri text NOT NULL)
