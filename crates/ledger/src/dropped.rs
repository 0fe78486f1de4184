//! Definitions of indexes and constraints that skyfill dropped (table `dropped_ddl`).

use postgres::{Error, GenericClient};

/// Something that was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// The statement that makes it again.
    pub ddl: String,
    /// Of a constraint, the statement that builds the index that it stands on, without the
    /// constraint. Nothing for a plain index, and in what earlier versions saved.
    pub index: Option<String>,
    /// The tablespace of the index, empty for the database's own. Nothing in what earlier versions
    /// saved.
    pub tablespace: Option<String>,
}

/// Remembers `dropped` of `schema`; in the transaction that drops it.
///
/// # Errors
/// The server refused.
pub fn save(client: &mut impl GenericClient, schema: &str, dropped: &Dropped) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.dropped_ddl (schema_name, table_name, name, ddl, index_ddl, tablespace)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (schema_name, name) DO UPDATE SET ddl = excluded.ddl, index_ddl = excluded.index_ddl,
           tablespace = excluded.tablespace, dropped_at = now()",
        &[
            &schema,
            &dropped.table,
            &dropped.name,
            &dropped.ddl,
            &dropped.index,
            &dropped.tablespace,
        ],
    )?;
    Ok(())
}

/// What is missing in `schema`, oldest first.
///
/// # Errors
/// The server refused.
pub fn list(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Dropped>, Error> {
    let rows = client.query(
        "SELECT table_name, name, ddl, index_ddl, tablespace FROM skyfill.dropped_ddl
         WHERE schema_name = $1 ORDER BY dropped_at, name",
        &[&schema],
    )?;
    Ok(rows
        .iter()
        .map(|row| Dropped {
            table: row.get(0),
            name: row.get(1),
            ddl: row.get(2),
            index: row.get(3),
            tablespace: row.get(4),
        })
        .collect())
}

/// Whether `name` of `schema` is still missing.
///
/// # Errors
/// The server refused.
pub fn is_listed(client: &mut impl GenericClient, schema: &str, name: &str) -> Result<bool, Error> {
    let sql =
        "SELECT EXISTS (SELECT FROM skyfill.dropped_ddl WHERE schema_name = $1 AND name = $2)";
    client.query_one(sql, &[&schema, &name])?.try_get(0)
}

/// The statement that forgets `name` of `schema`; in the transaction that makes it again. It is
/// text, so that a build and its line here can be sent as one message, which the server carries out
/// to the end even if skyfill is killed meanwhile.
#[must_use]
pub fn forget(schema: &str, name: &str) -> String {
    format!(
        "DELETE FROM skyfill.dropped_ddl WHERE schema_name = {} AND name = {}",
        literal(schema),
        literal(name)
    )
}

/// A text as a constant of SQL (`standard_conforming_strings` is on in all sessions).
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
