//! Looks at what a load stands on, before hours of it end in something that could have been known:
//! the server and its settings ([`server`]), the schema ([`schema`]), who else is connected
//! ([`sessions`]), this machine ([`machine`]) and the network ([`network`]).
//!
//! Each look gives findings. A finding says what there is, what it means for a load, and the line
//! that changes it. Nothing is changed here.

pub mod machine;
pub mod network;
pub mod schema;
pub mod server;
pub mod sessions;

use process::{Database, Failure, NextStep};
use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// It costs time or disk, or is a risk.
    Warning,
    /// A load cannot do its work.
    Problem,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about, in a word or two that stay the same.
    pub about: &'static str,
    /// How much it matters.
    pub level: Level,
    /// What there is.
    pub found: String,
    /// What it means for a load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
    /// The line that changes it, or the next step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self {
            about,
            level: Level::Ok,
            found: found.into(),
            means: None,
            change: None,
        }
    }

    /// The same, but it matters more, for this reason.
    fn but(mut self, level: Level, means: impl Into<String>) -> Self {
        self.level = level;
        self.means = Some(means.into());
        self
    }

    /// The same, with the line that changes it.
    fn change(mut self, line: impl Into<String>) -> Self {
        self.change = Some(line.into());
        self
    }

    /// What a failure is about.
    fn of_failure(about: &'static str, failure: &Failure) -> Self {
        let change = match failure.next_step() {
            Some(NextStep::Text(text) | NextStep::GoOn(text)) => Some(text.clone()),
            Some(NextStep::Run { text, command }) => Some(format!("{text}: skyfill {command}")),
            None => None,
        };
        Self {
            about,
            level: Level::Problem,
            found: failure.message().to_owned(),
            means: None,
            change,
        }
    }
}

/// The highest level of some findings.
#[must_use]
pub fn highest(findings: &[Finding]) -> Level {
    findings
        .iter()
        .map(|finding| finding.level)
        .max()
        .unwrap_or(Level::Ok)
}

/// Looks at the database: the server, the way to it, the schema, and who else is connected.
/// `connections` is the number of connections that a load uses for its rows.
#[must_use]
pub fn of_database(database: &Database, connections: usize) -> Vec<Finding> {
    let mut client = match database.connect() {
        Ok(client) => client,
        Err(failure) => return vec![Finding::of_failure("connection", &failure)],
    };
    if let Err(failure) = database.require_sessions(&mut client) {
        return vec![Finding::of_failure("pooler", &failure)];
    }
    let mut findings = Vec::new();
    for look in [
        server::way(&mut client, database),
        server::fitness(&mut client, database),
        server::settings(&mut client, database),
        server::connections(&mut client, database, connections),
        server::disk(&mut client, database),
        machine::server_clock(&mut client, database),
        schema::look(&mut client, database),
        sessions::look(&mut client, database),
    ] {
        match look {
            Ok(found) => findings.extend(found),
            Err(failure) => findings.push(Finding::of_failure("database", &failure)),
        }
    }
    findings
}

/// The finding of a database that could not be opened.
#[must_use]
pub fn unopened(failure: &Failure) -> Finding {
    Finding::of_failure("database", failure)
}

/// Looks at this machine.
#[must_use]
pub fn of_machine() -> Vec<Finding> {
    vec![machine::open_files()]
}
