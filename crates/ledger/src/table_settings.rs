//! Settings of the AppView's tables that skyfill changed for a load, with what they were (table
//! `table_setting`), so that they can be set back after any crash.

use postgres::{Error, GenericClient};

/// The step of the ledger's schema that makes the table.
pub(crate) const STEP: &str = "CREATE TABLE skyfill.table_setting (
        schema_name text NOT NULL,
        table_name text NOT NULL,
        name text NOT NULL,
        value text,
        PRIMARY KEY (schema_name, table_name, name))";

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The table.
    pub table: String,
    /// The name of the setting.
    pub name: String,
    /// What it was; nothing if the table had none of its own.
    pub value: Option<String>,
}

/// Remembers what a setting was; in the transaction that changes it. What is remembered already
/// stays.
///
/// # Errors
/// The server refused.
pub fn save(client: &mut impl GenericClient, schema: &str, was: &Changed) -> Result<(), Error> {
    client.execute(
        "INSERT INTO skyfill.table_setting (schema_name, table_name, name, value) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
        &[&schema, &was.table, &was.name, &was.value],
    )?;
    Ok(())
}

/// What was changed and not set back, and is locked until the transaction ends.
///
/// # Errors
/// The server refused.
pub fn list(client: &mut impl GenericClient, schema: &str) -> Result<Vec<Changed>, Error> {
    let rows = client.query(
        "SELECT table_name, name, value FROM skyfill.table_setting WHERE schema_name = $1
         ORDER BY table_name, name FOR UPDATE",
        &[&schema],
    )?;
    Ok(rows
        .iter()
        .map(|row| Changed {
            table: row.get(0),
            name: row.get(1),
            value: row.get(2),
        })
        .collect())
}

/// Forgets all of them; in the transaction that sets them back.
///
/// # Errors
/// The server refused.
pub fn forget(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(
        "DELETE FROM skyfill.table_setting WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(())
}
