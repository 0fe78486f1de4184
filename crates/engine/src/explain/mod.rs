//! Answers about one record or one account: what the ledger and the AppView's tables know, why it
//! is so, and what its host says now.
//!
//! [`explain()`] reads; nothing is changed. `record` decides the fate of a record, `account` tells
//! of an account and of the next step, `live` asks the host for a proof.

mod account;
mod live;
mod place;
mod record;

pub use account::{About, NextFor};
pub use live::Live;
pub use record::{Explained, Fate};

use crate::documents::Directory;
use crate::explain::place::Place;
use crate::fresh_repo::FreshRepos;
use fetch::Spool;
use process::stop::PATIENT;
use process::{Database, Failure, Stop, threads};
use serde_json::{Value, json};

/// What is asked.
pub struct Options {
    /// A DID, a handle, or the AT-URI of a record.
    pub target: String,
    /// How the account's host is asked, if it is to be asked.
    pub fetch: Option<fetch::Options>,
    /// Where bodies lie that are too large for memory.
    pub spool: Spool,
    /// Where documents and handles are asked for.
    pub directory: Directory,
}

/// The answer.
pub struct Answer {
    /// The account.
    pub about: About,
    /// The record, if one was asked about.
    pub record: Option<Explained>,
    /// What the host says, if it was asked.
    pub live: Option<Live>,
}

impl Answer {
    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "record": self.record.as_ref().map(Explained::json),
            "account": self.about.json(),
            "host": self.live.as_ref().map(Live::json),
        })
    }

    /// All of it as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(record) = &self.record {
            record.write(&mut lines);
        }
        self.about.write(&mut lines);
        if let Some(live) = &self.live {
            live.write(&mut lines);
        }
        if let Some(next) = self.about.next() {
            lines.push(format!("next: {}", next.text()));
        }
        lines
    }
}

/// Answers.
///
/// # Errors
/// The database or a directory cannot be used, or the target is none.
pub fn explain(options: &Options, database: &Database, stop: &Stop) -> Result<Answer, Failure> {
    let refused = |error: postgres::Error| database.failure(error);
    let mut client = database.connect()?;
    database.require_ledger(&mut client)?;
    database.require_trusted(&mut client)?;
    ledger::prepare(&mut client, PATIENT).map_err(|error| database.db_failure(&error))?;
    let session = format!(
        "{}; SET default_transaction_read_only = on",
        pg::search_path(&database.schema)
    );
    client.batch_execute(&session).map_err(refused)?;
    let runtime = threads::start()?;
    let place = Place::find(
        &options.target,
        &options.directory,
        database,
        &mut client,
        &runtime,
    )?;
    let about = About::read(&mut client, &database.schema, &place.did).map_err(refused)?;
    let record = match place.uri() {
        Some(_) => Some(Explained::read(&mut client, database, &place, &about)?),
        None => None,
    };
    let live = match &options.fetch {
        None => None,
        Some(fetch) => {
            let fresh = FreshRepos::new(fetch, &options.spool, &options.directory, &runtime, stop)?;
            let stored = about.stored_commit();
            let known = record.as_ref().and_then(Explained::cid);
            Some(runtime.block_on(Live::ask(&fresh, &place, stored, known)))
        }
    };
    Ok(Answer {
        about,
        record,
        live,
    })
}
