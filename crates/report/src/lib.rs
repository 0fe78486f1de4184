//! A page about a run, to keep: what was loaded, how long each phase took and what limited it, how
//! fast it was, what failed, what proves it, and what the database takes.
//!
//! [`Report::read`] asks the ledger and the server; nothing that it asks goes over all repos or all
//! rows, except where they are few ([`content`]). [`html`] is one file without any request, which
//! opens from disk and prints; [`Report::json`] has the same data.

pub mod content;
mod file;
pub mod html;
mod json;
mod rates;

pub use file::write;
pub use rates::{Point, points};

use content::{Content, Relation, ServerFacts};
use engine::status::Status;
use engine::status::failed;
use ledger::failures::Group;
use ledger::history::{self, Sample};
use process::{Database, Failure};

/// Hosts that a report names.
const HOSTS: i64 = 30;

/// All that a report is made from.
pub struct Report {
    /// What the ledger says now.
    pub status: Status,
    /// How the run went over time.
    pub samples: Vec<Sample>,
    /// Failed repos by reason.
    pub failures: Vec<Group>,
    /// Records by collection and month, if they could be counted.
    pub content: Result<Content, String>,
    /// The tables of the AppView and of skyfill with their sizes, the largest first.
    pub relations: Result<Vec<Relation>, String>,
    /// The server.
    pub server: Result<ServerFacts, String>,
}

impl Report {
    /// Reads it. What the server does not answer in time is left out, with the reason.
    ///
    /// # Errors
    /// The database cannot be read, or skyfill has not worked on it.
    pub fn read(database: &Database) -> Result<Self, Failure> {
        let status = Status::read(database, HOSTS)?;
        let mut client = database.connect()?;
        let refused = |error| database.failure(error);
        let samples = match &status.coverage.run {
            Some(run) => {
                history::of_run(&mut *client, &database.schema, run.id).map_err(refused)?
            }
            None => Vec::new(),
        };
        let failures = failed::read(database)?;
        content::bound(&mut client).map_err(refused)?;
        let text = |error: postgres::Error| pg::DbError::from(error).to_string();
        let schema = &database.schema;
        Ok(Self {
            samples,
            failures,
            content: Content::read(&mut client, schema, status.stored.records).map_err(text),
            relations: content::relations(&mut client, schema).map_err(text),
            server: content::server(&mut client).map_err(text),
            status,
        })
    }
}
