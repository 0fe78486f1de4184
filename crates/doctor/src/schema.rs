//! The AppView's schema: whether skyfill can fill it, what it does not know of it, and what is
//! missing because skyfill dropped it.

use crate::{Finding, Level};
use observe::units::counted;
use postgres::Client;
use process::{Database, Failure};

pub(crate) fn look(client: &mut Client, database: &Database) -> Result<Vec<Finding>, Failure> {
    let schema = &database.schema;
    let Some(drift) = database.drift(client)? else {
        return nothing_yet(client, database);
    };
    let mut findings = Vec::new();
    if drift.is_behind() {
        findings.push(
            Finding::ok(
                "schema",
                format!(
                    "{schema} lacks {}",
                    counted(drift.missing.len() as u64, "official migration")
                ),
            )
            .but(Level::Problem, "skyfill fills the newest official state")
            .change("skyfill migrate"),
        );
    }
    for problem in drift.problems.iter().filter(|_| !drift.is_behind()) {
        findings.push(
            Finding::ok("schema", problem.clone())
                .but(Level::Problem, "skyfill cannot fill it right")
                .change(
                    "use a skyfill made for that AppView version, or another schema (--schema)",
                ),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok("schema", format!("{schema} can be filled")));
    }
    if !drift.unknown.is_empty() {
        findings.push(
            Finding::ok(
                "migrations",
                format!("skyfill does not know {}", drift.unknown.join(", ")),
            )
            .but(Level::Note, "the schema is newer than skyfill, or a fork's"),
        );
    }
    for more in &drift.more {
        findings.push(
            Finding::ok("drift", format!("{more} is not official"))
                .but(Level::Note, "skyfill leaves it at its defaults"),
        );
    }
    for acting in &drift.acting {
        findings.push(
            Finding::ok("drift", acting.clone())
                .but(Level::Note, "it acts on each row, and slows a load down"),
        );
    }
    findings.extend(rights(client, database)?);
    let missing =
        load::indexes::missing(client, schema).map_err(|error| database.failure(error))?;
    if !missing.is_empty() {
        findings.push(
            Finding::ok(
                "indexes",
                format!(
                    "indexes and constraints that skyfill dropped: {}",
                    missing.len()
                ),
            )
            .but(
                Level::Warning,
                "a run under way rebuilds them at its end; an AppView is slow without them",
            )
            .change("skyfill indexes restore"),
        );
    }
    Ok(findings)
}

/// No schema yet: whether there can be one.
fn nothing_yet(client: &mut Client, database: &Database) -> Result<Vec<Finding>, Failure> {
    let row = client
        .query_one(
            "SELECT has_database_privilege(current_database(), 'CREATE'),
               EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm')
                 OR EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm'),
               current_user::text, current_database()::text",
            &[],
        )
        .map_err(|error| database.failure(error))?;
    let (role, name): (String, String) = (row.get(2), row.get(3));
    let mut findings = vec![
        Finding::ok("schema", format!("{} is not there yet", database.schema))
            .but(Level::Problem, "there is nothing to fill")
            .change("skyfill migrate"),
    ];
    if !row.get::<_, bool>(0) {
        findings.push(
            Finding::ok("rights", format!("{role} may not create schemas"))
                .but(Level::Problem, "skyfill migrate would be refused")
                .change(format!("GRANT CREATE ON DATABASE \"{name}\" TO \"{role}\"")),
        );
    }
    if !row.get::<_, bool>(1) {
        findings.push(
            Finding::ok("pg_trgm", "the server does not have the extension pg_trgm")
                .but(Level::Problem, "an official migration creates it")
                .change("install PostgreSQL's contrib package on the server (Debian: postgresql)"),
        );
    }
    Ok(findings)
}

/// Whether this role may do what a load does: drop and rebuild indexes, which only owners may, and
/// keep a schema of its own.
fn rights(client: &mut Client, database: &Database) -> Result<Vec<Finding>, Failure> {
    let tables: Vec<&str> = appview_tables();
    let row = client
        .query_one(
            "SELECT coalesce((SELECT string_agg(DISTINCT pg_get_userbyid(c.relowner)::text, ', ')
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = $1 AND c.relname::text = ANY ($2) AND NOT pg_has_role(c.relowner, 'USAGE')), ''),
               to_regnamespace('skyfill') IS NOT NULL OR has_database_privilege(current_database(), 'CREATE'),
               current_user::text, current_database()::text",
            &[&database.schema, &tables],
        )
        .map_err(|error| database.failure(error))?;
    let (owners, role, name): (String, String, String) = (row.get(0), row.get(2), row.get(3));
    let mut findings = Vec::new();
    if !owners.is_empty() {
        findings.push(
            Finding::ok(
                "rights",
                format!("the tables belong to {owners}, not to {role}"),
            )
            .but(
                Level::Problem,
                "only an owner can drop and rebuild indexes, and vacuum",
            )
            .change(format!("GRANT {owners} TO \"{role}\"")),
        );
    }
    if !row.get::<_, bool>(1) {
        findings.push(
            Finding::ok(
                "rights",
                format!("{role} may not create the schema skyfill"),
            )
            .but(Level::Problem, "skyfill keeps its ledger there")
            .change(format!("GRANT CREATE ON DATABASE \"{name}\" TO \"{role}\"")),
        );
    }
    Ok(findings)
}

fn appview_tables() -> Vec<&'static str> {
    let tables = appview::table::ALL.iter().map(|info| info.name);
    tables
        .chain(["actor", "actor_sync", "post_agg", "profile_agg"])
        .collect()
}
