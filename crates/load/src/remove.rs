//! Accounts that are gone: all of their rows go, as if they had never been there.
//!
//! The official code leaves some behind (`deleteActor` in `data-plane/server/indexing/index.ts`
//! knows nothing of `feed_item`, `quote` and others) and also takes what others wrote to the
//! account; here the tables become those of a load without it.

use crate::driver::{DbError, Driver, RustDriver};
use crate::loader::commit;
use crate::{merge, replace};
use ledger::repos;

/// A connection that removes accounts.
pub struct Remover {
    driver: RustDriver,
    schema: String,
}

impl Remover {
    /// Connects.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn connect(url: &str, schema: &str) -> Result<Self, DbError> {
        let mut driver = RustDriver::connect(url)?;
        merge::prepare_session(&mut driver, schema)?;
        replace::prepare_session(&mut driver)?;
        Ok(Self {
            driver,
            schema: schema.to_owned(),
        })
    }

    /// Removes all rows of an account and notes it as deleted, in one transaction. Nothing happens
    /// if its host's lease is lost; whether it was held.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn remove(&mut self, did: &str, lease: i64) -> Result<bool, DbError> {
        self.driver.batch("BEGIN")?;
        replace::empty(&mut self.driver)?;
        if repos::lock(self.driver.client(), &self.schema, &[did], &[lease])?.is_empty() {
            self.driver.batch("ROLLBACK")?;
            return Ok(false);
        }
        replace::remove(&mut self.driver, did)?;
        for table in ["actor_sync", "actor"] {
            self.driver
                .client()
                .execute(&format!("DELETE FROM \"{table}\" WHERE did = $1"), &[&did])?;
        }
        repos::deleted(self.driver.client(), &self.schema, did)?;
        commit(&mut self.driver, &self.schema)?;
        Ok(true)
    }
}
