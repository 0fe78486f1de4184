-- Work tables and functions of finalize. They are created when it starts over and dropped when it
-- is done.

-- Authority and collection of an AT-URI; the order of records is by (rkey, URI), in bytes.
CREATE OR REPLACE FUNCTION skyfill.host_of(uri text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT split_part(uri, '/', 3) $$;
CREATE OR REPLACE FUNCTION skyfill.collection_of(uri text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT split_part(split_part(uri, '#', 1), '/', 4) $$;
CREATE OR REPLACE FUNCTION skyfill.order_of(uri text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT split_part(uri, '/', 5) || chr(1) || uri $$;
-- The post that a gate rules: same account, same rkey.
CREATE OR REPLACE FUNCTION skyfill.ruled_by(gate text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT 'at://' || split_part(gate, '/', 3) || '/app.bsky.feed.post/' || split_part(gate, '/', 5) $$;
-- A key for a pair of texts of any length: an index entry has at most 2,704 bytes, and a record may
-- contain longer texts. SHA-256, so that nobody can make two pairs with one key.
CREATE OR REPLACE FUNCTION skyfill.key_of(first text, second text) RETURNS bytea LANGUAGE sql STABLE AS
$$ SELECT sha256(convert_to(length(first) || ' ' || first || second, 'UTF8')) $$;
-- JSON that PostgreSQL can parse, or NULL: no record may stop a stage. PostgreSQL cannot parse JSON
-- that contains \u0000 or half of a surrogate pair anywhere. Such escapes are replaced by others,
-- which are in nothing that is compared. Valid JSON contains no raw control character, so chr(1)
-- can stand for an escaped backslash meanwhile. skyfill did not store text that is not JSON or is
-- nested too deeply.
CREATE OR REPLACE FUNCTION skyfill.readable(json text) RETURNS json LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF strpos(json, '\u') > 0 THEN
    json := replace(json, '\\', chr(1));
    json := replace(replace(replace(json, '\u0000', '\ufffd'), '\ud', '\ue'), '\uD', '\ue');
    json := replace(json, chr(1), '\\');
  END IF;
  RETURN json::json;
EXCEPTION WHEN data_exception OR statement_too_complex THEN
  RETURN NULL;
END $$;
-- The items of an array; no rows for anything else.
CREATE OR REPLACE FUNCTION skyfill.items(value json) RETURNS SETOF json LANGUAGE sql IMMUTABLE AS
$$ SELECT json_array_elements(CASE WHEN json_typeof(value) = 'array' THEN value END) $$;

-- Replies with an invalid root, numbered so that their spread can be sliced.
CREATE TABLE skyfill.finalize_bad (uri text PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY UNIQUE);
-- Replies that come before their parents by (rkey, URI). Every cycle has one.
CREATE TABLE skyfill.finalize_climb (uri text PRIMARY KEY);
-- The posts above those, while cycles are looked for.
CREATE TABLE skyfill.finalize_up (uri text PRIMARY KEY, number bigint GENERATED ALWAYS AS IDENTITY UNIQUE, jump text,
  least text NOT NULL);
-- Members of reply cycles, with the first member of their cycle.
CREATE TABLE skyfill.finalize_cycle (uri text PRIMARY KEY, first text NOT NULL);
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
-- Posts that embed a second post; the first one is in `quote`.
CREATE TABLE skyfill.finalize_second (uri text PRIMARY KEY, subject text NOT NULL, cid text NOT NULL);
CREATE INDEX ON skyfill.finalize_second (subject);
-- Replies that a gate does not admit.
CREATE TABLE skyfill.finalize_shut (uri text PRIMARY KEY, parent text NOT NULL);
CREATE INDEX ON skyfill.finalize_shut (parent);
-- Quotes by the CID that they quote, as key_of with nothing: no index of the AppView bounds that
-- CID.
CREATE TABLE skyfill.finalize_quote_cid (key bytea PRIMARY KEY, quotes bigint NOT NULL);
