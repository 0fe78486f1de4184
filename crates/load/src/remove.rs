//! Removes all rows of accounts that are gone, as if they had never been there.
//!
//! The official code leaves some behind (`deleteActor` in `data-plane/server/indexing/index.ts`
//! ignores `feed_item`, `quote` and others), and also removes what others wrote to the account.
//! Here the tables become those of a load without the account.

use crate::beside;
use crate::loader::commit;
use crate::replace;
use crate::staged::Staged;
use ledger::changes::Noting;
use ledger::repos;
use pg::DbError;
use postgres::Client;

/// A connection that removes accounts.
pub struct Remover {
    client: Client,
    schema: String,
    staged: Staged,
    /// Whether nobody else writes records in the open transaction.
    is_alone: bool,
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
            staged: Staged::default(),
            is_alone: false,
        })
    }

    /// Removes all rows of an account and marks it as deleted, in one transaction. Returns false
    /// and does nothing if the lease of its host is lost.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn remove(&mut self, did: &str, lease: i64) -> Result<bool, DbError> {
        if !self.begin(did, lease)? {
            return Ok(false);
        }
        self.finish(did)?;
        Ok(true)
    }

    /// Begins to remove an account, and lets no other program write records until
    /// [`Remover::finish`], or until this is dropped. False if the lease of its host is lost.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn begin_alone(&mut self, did: &str, lease: i64) -> Result<bool, DbError> {
        if !self.begin(did, lease)? {
            return Ok(false);
        }
        beside::hold_others(&mut self.client)?;
        self.is_alone = true;
        Ok(true)
    }

    fn begin(&mut self, did: &str, lease: i64) -> Result<bool, DbError> {
        self.client.batch_execute("BEGIN")?;
        self.client.batch_execute(replace::BY_INDEX)?;
        self.staged.begin(&mut self.client)?;
        if repos::lock(&mut self.client, &self.schema, &[did], &[lease])?.is_empty() {
            self.client.batch_execute("ROLLBACK")?;
            self.staged.rolled_back();
            return Ok(false);
        }
        Ok(true)
    }

    /// Removes the account of the open transaction, and commits.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn finish(&mut self, did: &str) -> Result<(), DbError> {
        let noting = match std::mem::take(&mut self.is_alone) {
            true => Noting::begin_always(&mut self.client, &self.schema)?,
            false => Noting::begin(&mut self.client, &self.schema)?,
        };
        replace::remove(&mut self.client, &mut self.staged, did, &noting)?;
        // Whoever looks the account up stores its row of `actor` before this, or not at all.
        repos::deleted(&mut self.client, &self.schema, did)?;
        for table in ["actor_sync", "actor"] {
            self.client
                .execute(&format!("DELETE FROM \"{table}\" WHERE did = $1"), &[&did])?;
        }
        commit(&mut self.client, &noting)?;
        self.staged.committed();
        Ok(())
    }
}
