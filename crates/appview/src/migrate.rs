//! Brings a database to the official schema, from nothing or from any official state.
//!
//! The bookkeeping is that of the official migrator (kysely): one row per step in
//! `kysely_migration`, the same advisory lock, one transaction for all missing steps. So the
//! official service finds nothing to do afterwards, and skyfill and the service cannot migrate at
//! the same time.

use crate::migrations::{MIGRATIONS, Migration};
use postgres::{Client, Transaction};
use std::fmt;

/// Key of the advisory lock under which kysely migrates (`dialect/postgres/postgres-adapter.ts`).
pub const KYSELY_LOCK: i64 = 3_853_314_791_062_309_107;

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Number of steps that had run before.
    pub before: usize,
    /// Those of them that this version does not know.
    pub unknown: Vec<String>,
    /// Steps that ran now.
    pub ran: Vec<&'static str>,
}

/// Why a database was left unchanged.
#[derive(Debug)]
#[non_exhaustive]
pub enum MigrateError {
    /// It has steps that this version does not know, and lacks some that it knows: they cannot be
    /// put in between.
    Unknown(Vec<String>),
    /// Its steps are not the first ones of the official list.
    Gap {
        /// A missing step.
        missing: &'static str,
        /// A later step that has run.
        present: String,
    },
    /// The extension `pg_trgm` cannot be installed.
    Trgm(postgres::Error),
    /// A step failed.
    Step {
        /// The step.
        name: &'static str,
        /// The error of the server.
        source: postgres::Error,
    },
    /// The server refused something else.
    Db(postgres::Error),
}

impl fmt::Display for MigrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(names) => write!(
                f,
                "the database has migrations that this version of skyfill does not know: {}; it was left unchanged. \
                 Use a skyfill made for that AppView version, or another schema",
                names.join(", ")
            ),
            Self::Gap { missing, present } => write!(
                f,
                "the database has migration {present} but not the earlier {missing}; it was left unchanged"
            ),
            Self::Trgm(error) => write!(
                f,
                "PostgreSQL extension pg_trgm cannot be created: {}; install PostgreSQL's contrib package on the server \
                 (Debian: postgresql), or let a superuser run: CREATE EXTENSION pg_trgm WITH SCHEMA public",
                server_message(error)
            ),
            Self::Step { name, source } => {
                write!(f, "migration {name}: {}", server_message(source))
            }
            Self::Db(error) => write!(f, "{}", server_message(error)),
        }
    }
}

impl std::error::Error for MigrateError {}

impl From<postgres::Error> for MigrateError {
    fn from(error: postgres::Error) -> Self {
        Self::Db(error)
    }
}

fn server_message(error: &postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || error.to_string(),
        |db| format!("{} ({})", db.message(), db.code().code()),
    )
}

/// Runs the missing steps in `schema`, and creates the schema if it does not exist.
///
/// # Errors
/// See [`MigrateError`]; nothing was changed then.
pub fn migrate(client: &mut Client, schema: &str) -> Result<Migrated, MigrateError> {
    migrate_to(client, schema, None)
}

/// As [`migrate`], up to step `last` (`None`: all), for tests that need an older state.
///
/// # Errors
/// See [`MigrateError`].
pub fn migrate_to(
    client: &mut Client,
    schema: &str,
    last: Option<&str>,
) -> Result<Migrated, MigrateError> {
    // A session lock, as kysely uses it: it also covers what comes before the transaction.
    client.batch_execute(&format!("SELECT pg_advisory_lock({KYSELY_LOCK})"))?;
    let outcome = run(client, schema, last);
    let unlocked = client.batch_execute(&format!("SELECT pg_advisory_unlock({KYSELY_LOCK})"));
    let migrated = outcome?;
    unlocked?;
    Ok(migrated)
}

fn run(client: &mut Client, schema: &str, last: Option<&str>) -> Result<Migrated, MigrateError> {
    let mut txn = client.transaction()?;
    let present = prepare(&mut txn, schema)?;
    let unknown: Vec<String> = present
        .iter()
        .filter(|name| !MIGRATIONS.iter().any(|m| m.name == **name))
        .cloned()
        .collect();
    if !unknown.is_empty() {
        let is_complete = MIGRATIONS
            .iter()
            .all(|step| present.iter().any(|name| name == step.name));
        if !is_complete {
            return Err(MigrateError::Unknown(unknown));
        }
        txn.rollback()?;
        return Ok(Migrated {
            before: present.len(),
            unknown,
            ran: Vec::new(),
        });
    }
    for (known, found) in MIGRATIONS.iter().zip(&present) {
        if known.name != found {
            return Err(MigrateError::Gap {
                missing: known.name,
                present: found.clone(),
            });
        }
    }
    let mut ran = Vec::new();
    for step in MIGRATIONS.iter().skip(present.len()) {
        if last.is_some_and(|last| step.name > last) {
            break;
        }
        run_step(&mut txn, schema, step)?;
        ran.push(step.name);
    }
    txn.commit()?;
    Ok(Migrated {
        before: present.len(),
        unknown,
        ran,
    })
}

/// Makes the schema and kysely's tables, where they are missing. The names of the migrations that
/// have run.
fn prepare(txn: &mut Transaction<'_>, schema: &str) -> Result<Vec<String>, postgres::Error> {
    // Checked first: a role that may not create schemas may still fill one.
    if !txn
        .query_one(
            "SELECT to_regnamespace($1) IS NOT NULL",
            &[&format!("\"{schema}\"")],
        )?
        .get::<_, bool>(0)
    {
        txn.batch_execute(&format!(r#"CREATE SCHEMA "{schema}""#))?;
    }
    txn.batch_execute(&format!(
        r#"SET LOCAL client_min_messages = warning;
           SET LOCAL search_path TO "{schema}", public;
           CREATE TABLE IF NOT EXISTS "{schema}".kysely_migration (name varchar(255) NOT NULL PRIMARY KEY, "timestamp" varchar(255) NOT NULL);
           CREATE TABLE IF NOT EXISTS "{schema}".kysely_migration_lock (id varchar(255) NOT NULL PRIMARY KEY, is_locked integer DEFAULT 0 NOT NULL);
           INSERT INTO "{schema}".kysely_migration_lock (id, is_locked) VALUES ('migration_lock', 0) ON CONFLICT DO NOTHING"#
    ))?;
    let sql = format!(r#"SELECT name FROM "{schema}".kysely_migration ORDER BY name"#);
    let rows = txn.query(&sql, &[])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn run_step(txn: &mut Transaction<'_>, schema: &str, step: &Migration) -> Result<(), MigrateError> {
    txn.batch_execute(step.sql).map_err(|source| {
        let is_of_server = |text: &str| {
            source
                .as_db_error()
                .is_some_and(|db| db.message().contains(text))
        };
        let about_trgm = step.sql.contains("create extension")
            && source.to_string().contains("pg_trgm")
            || is_of_server("pg_trgm");
        if about_trgm {
            MigrateError::Trgm(source)
        } else {
            MigrateError::Step {
                name: step.name,
                source,
            }
        }
    })?;
    txn.execute(
        &format!(
            r#"INSERT INTO "{schema}".kysely_migration (name, "timestamp")
               VALUES ($1, to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))"#
        ),
        &[&step.name],
    )?;
    Ok(())
}
