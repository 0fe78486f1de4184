//! Dropping the schema with all in it, guarded: what no repo can bring back is not thrown away by accident.

use postgres::Client;

/// Tables that a load, or the service itself, fills again.
const REFILLABLE: &[&str] = &[
    "actor",
    "actor_sync",
    "did_cache",
    "duplicate_record",
    "kysely_migration",
    "kysely_migration_lock",
    "post_agg",
    "profile_agg",
    "subscription",
    "view_param",
];

/// Columns of refillable tables that only a person or the service sets.
const PRIVATE_COLUMNS: &[(&str, &str)] = &[
    (
        "actor",
        r#""takedownRef" IS NOT NULL OR "trustedVerifier" OR "ageAssuranceStatus" IS NOT NULL"#,
    ),
    ("record", r#""takedownRef" IS NOT NULL OR tags IS NOT NULL"#),
];

/// What in `schema` no repo can refill: names of tables with rows, and of tables whose private columns are set.
/// Tables that are not the official ones count as private.
///
/// # Errors
/// The server refused.
pub fn private_data(client: &mut Client, schema: &str) -> Result<Vec<String>, postgres::Error> {
    let tables = client.query(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') ORDER BY 1",
        &[&schema],
    )?;
    let mut found = Vec::new();
    for row in tables {
        let name: String = row.get(0);
        let refillable =
            REFILLABLE.contains(&name.as_str()) || crate::table::ALL.iter().any(|table| table.name == name);
        let condition = PRIVATE_COLUMNS
            .iter()
            .find(|(table, _)| *table == name)
            .map_or("true", |(_, c)| *c);
        if refillable && condition == "true" {
            continue;
        }
        let quoted = name.replace('"', "\"\"");
        let sql = format!(r#"SELECT EXISTS (SELECT FROM "{schema}"."{quoted}" WHERE {condition})"#);
        match client.query_one(&sql, &[]) {
            Ok(row) if row.get(0) => found.push(name),
            Ok(_) => {}
            // An older official state, before the columns existed.
            Err(error)
                if refillable && error.code() == Some(&postgres::error::SqlState::UNDEFINED_COLUMN) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Drops `schema` with all in it.
///
/// # Errors
/// The server refused.
pub fn drop_schema(client: &mut Client, schema: &str) -> Result<(), postgres::Error> {
    client.batch_execute(&format!(
        r#"SET client_min_messages = warning; DROP SCHEMA IF EXISTS "{schema}" CASCADE; RESET client_min_messages"#
    ))
}
