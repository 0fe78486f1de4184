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
}

/// Remembers `dropped` of `schema`; in the transaction that drops it.
///
/// # Errors
/// The server refused.
pub fn save(client: &mut impl GenericClient, schema: &str, dropped: &Dropped) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.dropped_ddl (schema_name, table_name, name, ddl) VALUES ($1, $2, $3, $4)
         ON CONFLICT (schema_name, name) DO UPDATE SET ddl = excluded.ddl, dropped_at = now()",
        &[&schema, &dropped.table, &dropped.name, &dropped.ddl],
    )?;
    Ok(())
}

/// What is missing in `schema`, oldest first.
///
/// # Errors
/// The server refused.
pub fn list(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Dropped>, Error> {
    let rows = client.query(
        "SELECT table_name, name, ddl FROM skyfill.dropped_ddl WHERE schema_name = $1 ORDER BY dropped_at, name",
        &[&schema],
    )?;
    Ok(rows
        .iter()
        .map(|row| Dropped {
            table: row.get(0),
            name: row.get(1),
            ddl: row.get(2),
        })
        .collect())
}

/// Forgets `name` of `schema`; in the transaction that makes it again.
///
/// # Errors
/// The server refused.
pub fn forget(client: &mut impl GenericClient, schema: &str, name: &str) -> Result<(), Error> {
    client.execute(
        "DELETE FROM skyfill.dropped_ddl WHERE schema_name = $1 AND name = $2",
        &[&schema, &name],
    )?;
    Ok(())
}
