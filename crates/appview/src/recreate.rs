//! Drops the schema with all its contents, guarded: data that no repo can restore is not lost by
//! accident.

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

/// Columns of refillable tables that only a person or the service sets. Older official states lack
/// some of them.
const PRIVATE_COLUMNS: &[(&str, &str, &str)] = &[
    ("actor", "takedownRef", "IS NOT NULL"),
    ("actor", "takedownId", "IS NOT NULL"),
    ("actor", "trustedVerifier", "IS TRUE"),
    ("actor", "ageAssuranceStatus", "IS NOT NULL"),
    ("record", "takedownRef", "IS NOT NULL"),
    ("record", "takedownId", "IS NOT NULL"),
    ("record", "tags", "IS NOT NULL"),
];

/// The data in `schema` that no repo can restore: names of tables with rows, and of private columns
/// that are set. Tables that are not official count as private.
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
    let any =
        |condition: &str, table: &str, client: &mut Client| -> Result<bool, postgres::Error> {
            let quoted = table.replace('"', "\"\"");
            let sql =
                format!(r#"SELECT EXISTS (SELECT FROM "{schema}"."{quoted}" WHERE {condition})"#);
            Ok(client.query_one(&sql, &[])?.get(0))
        };
    for row in tables {
        let name: String = row.get(0);
        let refillable = REFILLABLE.contains(&name.as_str())
            || crate::table::ALL.iter().any(|table| table.name == name);
        if !refillable {
            if any("true", &name, client)? {
                found.push(name);
            }
            continue;
        }
        for (_, column, test) in PRIVATE_COLUMNS.iter().filter(|(table, ..)| *table == name) {
            let there = client.query_opt(
                "SELECT FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 AND column_name = $3",
                &[&schema, &name, column],
            )?;
            if there.is_some() && any(&format!("\"{column}\" {test}"), &name, client)? {
                found.push(format!("{name}.{column}"));
            }
        }
    }
    Ok(found)
}

/// Tables that have rows as soon as the schema exists.
const FILLED_BY_MIGRATIONS: &[&str] = &["kysely_migration", "kysely_migration_lock", "view_param"];

/// A table of `schema` that has rows, if there is one, apart from those that migrations fill.
///
/// # Errors
/// The server refused.
pub fn filled_table(client: &mut Client, schema: &str) -> Result<Option<String>, postgres::Error> {
    let tables = client.query(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') AND c.relname::text <> ALL ($2) ORDER BY 1",
        &[&schema, &FILLED_BY_MIGRATIONS],
    )?;
    for row in tables {
        let name: String = row.try_get(0)?;
        let quoted = name.replace('"', "\"\"");
        let sql = format!(r#"SELECT EXISTS (SELECT FROM "{schema}"."{quoted}")"#);
        if client.query_one(&sql, &[])?.try_get(0)? {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Drops `schema` with all its contents.
///
/// # Errors
/// The server refused.
pub fn drop_schema(client: &mut Client, schema: &str) -> Result<(), postgres::Error> {
    client.batch_execute(&format!(
        r#"SET client_min_messages = warning; DROP SCHEMA IF EXISTS "{schema}" CASCADE; RESET client_min_messages"#
    ))
}
