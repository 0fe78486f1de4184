//! What is known of accounts (table `identity`): their state, their DID document, whether their handle is theirs.

/// Notes states that a load learned: schema, DIDs and states as array literals; a NULL state is an active account.
pub const NOTE_STATUSES: &str = "INSERT INTO skyfill.identity AS i (schema_name, did, status)
     SELECT $1::text, * FROM unnest($2::text::text[], $3::text::text[])
     ON CONFLICT (schema_name, did) DO UPDATE SET status = excluded.status WHERE i.status IS DISTINCT FROM excluded.status";
