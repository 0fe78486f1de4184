//! Looks at what a load stands on, before hours of it end in something that could have been known:
//! the server and its settings ([`server`]), the schema ([`schema`]), who else is connected
//! ([`sessions`]), this machine ([`machine`]) and the network ([`network`]).
//!
//! Each look gives findings. A finding says what there is, what it means for a load, and the line
//! that changes it. Nothing is changed here.

mod finding;
pub mod machine;
pub mod network;
pub mod schema;
pub mod server;
pub mod sessions;

pub use finding::{Finding, Level, counted, highest};

use process::{Database, Failure};

/// What a load that begins should know of its database: warnings and problems, a line each.
#[must_use]
pub fn warnings(database: &Database, connections: usize) -> Vec<String> {
    let findings = of_database(database, connections).into_iter();
    findings
        .filter(|finding| finding.level >= Level::Warning)
        .map(|finding| {
            let means = finding.means.unwrap_or_default();
            let change = finding.change.map(|line| format!(": {line}"));
            let change = change.unwrap_or_default();
            format!("{}: {}; {means}{change}", finding.about, finding.found)
        })
        .collect()
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
        server::settings(&mut client, database, connections),
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

/// Looks at the server's settings alone.
///
/// # Errors
/// The server refused.
pub fn of_settings(database: &Database, connections: usize) -> Result<Vec<Finding>, Failure> {
    server::settings(&mut *database.connect()?, database, connections)
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
