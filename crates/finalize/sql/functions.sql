-- Functions of finalize. They come and go with its work tables.

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
-- The gate of a post in this collection: same account, same rkey.
CREATE OR REPLACE FUNCTION skyfill.gate_of(post text, collection text) RETURNS text LANGUAGE sql IMMUTABLE AS
$$ SELECT 'at://' || split_part(post, '/', 3) || '/' || collection || '/' || split_part(post, '/', 5) $$;
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
