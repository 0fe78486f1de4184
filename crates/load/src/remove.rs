//! Removes all rows of accounts that are gone, as if they had never been there.
//!
//! The official code leaves some behind (`deleteActor` in `data-plane/server/indexing/index.ts`
//! ignores `feed_item`, `quote` and others), and also removes what others wrote to the account.
//! Here the tables become those of a load without the account.

use crate::loader::commit;
use crate::replace;
use ledger::changes::Noting;
use ledger::repos;
use pg::DbError;
use postgres::Client;

/// A connection that removes accounts.
pub struct Remover {
    client: Client,
    schema: String,
}

impl Remover {
    /// Connects.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn connect(url: &str, schema: &str) -> Result<Self, DbError> {
        let mut client = pg::connect(url)?;
        replace::prepare_session(&mut client, schema)?;
        Ok(Self {
            client,
            schema: schema.to_owned(),
        })
    }

    /// Removes all rows of an account and marks it as deleted, in one transaction. Returns false
    /// and does nothing if the lease of its host is lost.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn remove(&mut self, did: &str, lease: i64) -> Result<bool, DbError> {
        self.client.batch_execute("BEGIN")?;
        replace::empty(&mut self.client)?;
        if repos::lock(&mut self.client, &self.schema, &[did], &[lease])?.is_empty() {
            self.client.batch_execute("ROLLBACK")?;
            return Ok(false);
        }
        let noting = Noting::begin(&mut self.client, &self.schema)?;
        replace::remove(&mut self.client, did, &noting)?;
        for table in ["actor_sync", "actor"] {
            self.client
                .execute(&format!("DELETE FROM \"{table}\" WHERE did = $1"), &[&did])?;
        }
        repos::deleted(&mut self.client, &self.schema, did)?;
        commit(&mut self.client, &noting)?;
        Ok(true)
    }
}
