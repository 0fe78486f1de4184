//! Rebuilding the indexes that skyfill dropped.

use load::indexes::{self, Conflicts};
use process::{Database, Failure};

/// Rebuilds every index and constraint that is dropped; their names.
///
/// # Errors
/// One of them cannot be rebuilt; those before it stay.
pub fn restore(database: &Database) -> Result<Vec<String>, Failure> {
    let mut client = database.connect()?;
    database.require_trusted(&mut client)?;
    let schema = &database.schema;
    let missing = indexes::missing(&mut client, schema).map_err(|error| database.failure(error))?;
    let mut restored = Vec::new();
    for (at, dropped) in missing.iter().enumerate() {
        let (name, table) = (&dropped.name, &dropped.table);
        observe::log!("{} of {}: {name} on {table}", at + 1, missing.len());
        indexes::restore(&mut client, schema, dropped, Conflicts::Settle).map_err(|error| {
            Failure::new(format!("restore {name} on {table}: {error}"))
                .hint("what was restored stays; fix this, then run it again")
        })?;
        restored.push(name.clone());
    }
    Ok(restored)
}
