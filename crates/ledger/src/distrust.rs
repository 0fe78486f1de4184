//! What makes a comparison of everything necessary.

use postgres::{Error, GenericClient};

/// Notes that a comparison of what changed is not enough next time: nobody knows what was written.
///
/// # Errors
/// The server refused.
pub(crate) fn distrust(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(
        "UPDATE skyfill.proof SET all_at = NULL WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(())
}
