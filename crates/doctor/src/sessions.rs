//! Who else is connected to the database: an AppView that serves from it may stay, its ingester may
//! not.

use crate::{Finding, Level};
use postgres::Client;
use process::{Database, Failure};

/// Other sessions of the database: who, from where, whether it is a skyfill, and whether it writes
/// to a table of the schema right now.
const OTHERS: &str = "SELECT coalesce(nullif(a.application_name, ''), 'a session without a name')
      || ' (' || coalesce(a.usename::text, '?') || coalesce(', from ' || host(a.client_addr), '') || ')',
      starts_with(coalesce(a.application_name, ''), 'skyfill'), bool_or(l.pid IS NOT NULL)
    FROM pg_stat_activity a LEFT JOIN (
      SELECT l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1 AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())) l ON l.pid = a.pid
    WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
      AND coalesce(a.application_name, '') <> 'skyfill doctor'
    GROUP BY 1, 2 ORDER BY 1";

pub(crate) fn look(client: &mut Client, database: &Database) -> Result<Vec<Finding>, Failure> {
    let rows = client
        .query(OTHERS, &[&database.schema])
        .map_err(|error| database.failure(error))?;
    let (mut skyfills, mut others, mut writers) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let (name, is_skyfill, writes): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
        match (is_skyfill, writes) {
            (true, _) => skyfills.push(name),
            (false, true) => writers.push(name),
            (false, false) => others.push(name),
        }
    }
    let mut findings = Vec::new();
    if !writers.is_empty() {
        findings.push(
            Finding::ok("sessions", format!("{} writes to the schema", writers.join(", ")))
                .but(
                    Level::Warning,
                    "an ingester beside a load may apply an older commit after a newer one",
                )
                .change("stop the AppView's ingester until catch-up has ended (docs/how-to/live-appview.md)"),
        );
    }
    if !others.is_empty() {
        findings.push(
            Finding::ok("sessions", format!("also connected: {}", others.join(", "))).but(
                Level::Note,
                "an AppView may serve during a merge; a fresh load needs the tables for itself, and an ingester must be stopped",
            ),
        );
    }
    if !skyfills.is_empty() {
        findings.push(
            Finding::ok("sessions", format!("at work: {}", skyfills.join(", ")))
                .but(Level::Note, "skyfills share the work"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("sessions", "nobody else is connected"));
    }
    Ok(findings)
}
