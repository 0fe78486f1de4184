//! The ledger: skyfill's own tables in the target database, in schema `skyfill`, apart from the
//! AppView's.
//!
//! It holds the definitions of dropped indexes, so that they can be rebuilt after any crash; runs,
//! repos and hosts; the records of repos that are not in the AppView's tables; what is known of
//! accounts; the progress of finalize, and what changed since it ended.
//!
//! All SQL about these tables is in this crate; `tests/house.rs` checks that. A statement
//! about a table of the ledger and one of the AppView belongs to the table that it writes. The
//! ledger's are here. The AppView's are in `load` and `verify`, with the ledger's half as a
//! condition or value from here ([`repos::is_stored`], [`identity::status_of`]). Two kinds of
//! tables in schema `skyfill` are not the ledger's, because they are the affair of one crate:
//! finalize's work tables and functions (`finalize_*`, in `finalize/sql`) and what it keeps for the
//! next time (`derived_*`), and the empty copies of the AppView's tables (`probe_*`, in `load`).

pub mod about;
pub mod changes;
pub mod claims;
mod column;
pub mod coverage;
mod distrust;
pub mod dropped;
pub mod failpoint;
pub mod failures;
pub mod fold;
pub mod follow;
pub mod handles;
pub mod history;
mod host_counts;
pub mod hosts;
pub mod identity;
mod kept_counts;
pub mod listing;
pub mod locks;
pub mod open;
pub mod overview;
mod pages;
pub mod parts;
pub mod plans;
pub mod presence;
pub mod processes;
pub mod proofs;
pub mod publication;
pub mod repos;
pub mod runs;
pub mod settings;
pub mod shards;
pub mod skipped;
pub mod slices;
pub mod states;
pub mod stored;
pub mod table_settings;
pub mod tally;
pub mod text;
pub mod trust;
pub mod verified;
pub mod workers;

use locks::{Hold, Lock};
use pg::{DbError, Waits};
use postgres::{Client, Error};

/// Steps of the schema, in order. Never edit one that was released: add another.
const STEPS: &[&str] = &[
    "CREATE TABLE skyfill.dropped_ddl (
        schema_name text NOT NULL,
        table_name text NOT NULL,
        name text NOT NULL,
        ddl text NOT NULL,
        dropped_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (schema_name, name))",
    "CREATE TABLE skyfill.finalize_slice (
        schema_name text NOT NULL,
        stage text NOT NULL,
        number integer NOT NULL,
        lower_bound text,
        upper_bound text,
        done boolean NOT NULL DEFAULT false,
        PRIMARY KEY (schema_name, stage, number))",
    // `due` is when an account is to be looked up (again), NULL when there is no more to learn.
    "CREATE TABLE skyfill.identity (
        schema_name text NOT NULL,
        did text COLLATE \"C\" NOT NULL,
        status text,
        document text NOT NULL DEFAULT 'unknown',
        claimed_handle text,
        pds text,
        signing_key text,
        documented_at timestamptz,
        handle text NOT NULL DEFAULT 'unknown',
        attempts integer NOT NULL DEFAULT 0,
        due timestamptz DEFAULT '-infinity',
        error text,
        PRIMARY KEY (schema_name, did))",
    "CREATE INDEX identity_due_idx ON skyfill.identity (schema_name, did) WHERE due IS NOT NULL",
    "CREATE TABLE skyfill.cursor (name text PRIMARY KEY, value text NOT NULL)",
    "CREATE TABLE skyfill.run (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        schema_name text NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        now text NOT NULL,
        mode text NOT NULL,
        phase text NOT NULL,
        collections text[],
        notifications text NOT NULL)",
    "CREATE SEQUENCE skyfill.lease_number",
    "CREATE TABLE skyfill.host (
        schema_name text NOT NULL,
        host text COLLATE \"C\" NOT NULL,
        lease bigint,
        lease_until timestamptz,
        PRIMARY KEY (schema_name, host))",
    // Room in the pages: each row is written again once, when its repo is loaded.
    "CREATE TABLE skyfill.repo (
        schema_name text NOT NULL,
        did text COLLATE \"C\" NOT NULL,
        pds text NOT NULL,
        host text COLLATE \"C\" NOT NULL,
        state text NOT NULL DEFAULT 'open',
        rev text,
        commit_cid text,
        commit bytea,
        records bigint,
        skipped bigint,
        duplicates bigint,
        car_bytes bigint,
        attempts integer NOT NULL DEFAULT 0,
        next_attempt timestamptz,
        error_code text,
        error text,
        rebuild boolean NOT NULL DEFAULT false,
        loaded_at timestamptz,
        run bigint,
        PRIMARY KEY (schema_name, did)) WITH (fillfactor = 60)",
    "CREATE INDEX repo_open_idx ON skyfill.repo (schema_name, host, did) WHERE state = 'open'",
    "CREATE TABLE skyfill.skipped (
        schema_name text NOT NULL,
        did text COLLATE \"C\" NOT NULL,
        part smallint NOT NULL,
        number integer NOT NULL,
        list bytea NOT NULL,
        PRIMARY KEY (schema_name, did, part, number))",
    // A repo that comes over several sockets, until all of its parts are there.
    "CREATE TABLE skyfill.part (
        schema_name text NOT NULL,
        did text COLLATE \"C\" NOT NULL,
        part smallint NOT NULL,
        parts smallint NOT NULL,
        rev text NOT NULL,
        records bigint NOT NULL,
        skipped bigint NOT NULL,
        duplicates bigint NOT NULL,
        PRIMARY KEY (schema_name, did, part))",
    // Passes of discovery; `seq` is the relay's last sequence number before a pass began.
    "CREATE TABLE skyfill.listing (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        schema_name text NOT NULL,
        source text NOT NULL,
        relay text,
        seq bigint,
        started_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz)",
    // `listing` is the pass that `cursor` and the rest belong to.
    "ALTER TABLE skyfill.host ADD COLUMN url text, ADD COLUMN learned text, ADD COLUMN listing bigint,
        ADD COLUMN cursor text, ADD COLUMN listed bigint NOT NULL DEFAULT 0, ADD COLUMN listed_at timestamptz,
        ADD COLUMN listing_error text",
    // `moves` is how often a repo was found elsewhere since it was opened. `contested` is a repo
    // that two hosts claim; `listing` the pass in which its host listed it last; `newer` whether a
    // list says that there is a newer rev than the stored one.
    "ALTER TABLE skyfill.repo ADD COLUMN contested boolean NOT NULL DEFAULT false, ADD COLUMN listing bigint,
        ADD COLUMN newer boolean NOT NULL DEFAULT false, ADD COLUMN moves integer NOT NULL DEFAULT 0",
    "UPDATE skyfill.host h SET url = r.url
     FROM (SELECT schema_name, host, min(substring(pds FROM '^https?://[^/?#]+')) AS url FROM skyfill.repo GROUP BY 1, 2) r
     WHERE r.schema_name = h.schema_name AND r.host = h.host",
    "CREATE INDEX repo_unsettled_idx ON skyfill.repo (schema_name, did) WHERE contested OR state = 'unresolved'",
    "CREATE INDEX repo_failed_idx ON skyfill.repo (schema_name, next_attempt) WHERE state = 'failed'",
    "ALTER TABLE skyfill.run ADD COLUMN relay text, ADD COLUMN relay_seq bigint",
    // `holder` is the number of the session that leases a host, see [`hosts::enter`].
    "ALTER TABLE skyfill.host ADD COLUMN holder integer",
    "CREATE SEQUENCE skyfill.holder_number AS integer CYCLE",
    // What commands were told, as on the command line; `of_run` goes when the run is done.
    "CREATE TABLE skyfill.setting (
        schema_name text NOT NULL,
        name text COLLATE \"C\" NOT NULL,
        given_values text[] NOT NULL,
        from_environment boolean NOT NULL,
        of_run boolean NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (schema_name, name))",
    // The last comparison of all tables with the signed commits.
    "CREATE TABLE skyfill.proof (
        schema_name text PRIMARY KEY,
        began_at timestamptz NOT NULL,
        differences bigint NOT NULL)",
    // `proof` is who vouches for what is stored, NULL while nobody could check it; `forks`
    // how often a commit took the place of another one of the same rev. What was loaded before is
    // unproved.
    "ALTER TABLE skyfill.repo ADD COLUMN proof text, ADD COLUMN forks integer NOT NULL DEFAULT 0",
    "CREATE INDEX repo_unproved_idx ON skyfill.repo (schema_name, did)
       WHERE rev IS NOT NULL AND (proof IS NULL OR proof IN ('forged', 'elsewhere'))",
    // `claimant` is the host that claims a contested repo; `delisted` whether its own host said
    // that it has it no more. A claim is lost when the document names another host.
    "ALTER TABLE skyfill.repo ADD COLUMN claimant text COLLATE \"C\", ADD COLUMN delisted boolean NOT NULL DEFAULT false",
    "ALTER TABLE skyfill.host ADD COLUMN claims_lost bigint NOT NULL DEFAULT 0, ADD COLUMN claims_won bigint NOT NULL DEFAULT 0",
    "CREATE TABLE skyfill.lost_claim (
        schema_name text NOT NULL,
        did text COLLATE \"C\" NOT NULL,
        host text COLLATE \"C\" NOT NULL,
        PRIMARY KEY (schema_name, did, host))",
    // Of a constraint, the statement that builds its index alone, which locks nobody out.
    "ALTER TABLE skyfill.dropped_ddl ADD COLUMN index_ddl text, ADD COLUMN tablespace text",
    // Schemas whose derived rows were computed, and what changed since, see [`changes`]. `written`
    // is the server's count of rows that were written to the tables by then.
    "CREATE TABLE skyfill.finalized (
        schema_name text PRIMARY KEY,
        ended_at timestamptz NOT NULL DEFAULT now(),
        notifications text NOT NULL,
        written bigint NOT NULL)",
    "CREATE TABLE skyfill.change (
        schema_name text NOT NULL,
        kind text NOT NULL,
        key text NOT NULL,
        other text,
        difference bigint NOT NULL)",
    // Which commit the rows were compared with, see [`verified`]; `all_at` is when the last
    // comparison of everything began.
    "ALTER TABLE skyfill.repo ADD COLUMN verified text, ADD COLUMN verified_at timestamptz",
    "ALTER TABLE skyfill.proof ADD COLUMN all_at timestamptz",
    "CREATE INDEX repo_unverified_idx ON skyfill.repo (schema_name, did)
       WHERE rev IS NOT NULL AND verified IS DISTINCT FROM commit_cid",
    // What is counted of repos is kept as they change: see [`tally`].
    tally::STEP,
    // Who works or worked, in which phases, and how it went: see [`processes`] and [`history`].
    "CREATE TABLE skyfill.process (
        id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        schema_name text NOT NULL,
        command text NOT NULL,
        machine text NOT NULL,
        pid integer NOT NULL,
        version text NOT NULL,
        began_at timestamptz NOT NULL DEFAULT now(),
        seen_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        run bigint,
        phase text)",
    "CREATE TABLE skyfill.phase_time (
        process integer NOT NULL REFERENCES skyfill.process ON DELETE CASCADE,
        number smallint NOT NULL,
        phase text NOT NULL,
        began_at timestamptz NOT NULL,
        seconds float8 NOT NULL,
        is_done boolean NOT NULL,
        limits text[] NOT NULL,
        limit_seconds float8[] NOT NULL,
        PRIMARY KEY (process, phase))",
    "CREATE TABLE skyfill.sample (
        process integer NOT NULL REFERENCES skyfill.process ON DELETE CASCADE,
        at timestamptz NOT NULL,
        phase text NOT NULL,
        done bigint,
        total bigint,
        seconds_left float8,
        repos bigint NOT NULL,
        failed bigint NOT NULL,
        records bigint NOT NULL,
        bytes bigint NOT NULL,
        rows bigint NOT NULL,
        limited_by text,
        limit_why text,
        PRIMARY KEY (process, at))",
    // What a host gave: `given`, `absent` and `failed` are repos; `pending` those that were left
    // when it was last worked on; `pace` what it gave per second then; `trouble` the last failure.
    "ALTER TABLE skyfill.host ADD COLUMN given bigint NOT NULL DEFAULT 0, ADD COLUMN absent bigint NOT NULL DEFAULT 0,
        ADD COLUMN failed bigint NOT NULL DEFAULT 0, ADD COLUMN given_records bigint NOT NULL DEFAULT 0,
        ADD COLUMN given_bytes bigint NOT NULL DEFAULT 0, ADD COLUMN pending bigint, ADD COLUMN pace float8,
        ADD COLUMN trouble text, ADD COLUMN worked_at timestamptz",
    // The time before which posts, likes and reposts are left out.
    "ALTER TABLE skyfill.run ADD COLUMN since text",
    host_counts::STEP,
    pages::STEP,
    table_settings::STEP,
    // A loaded row does not fit into the room beside it, and its state is part of an index, so room
    // gains nothing. Dead rows are cleared away before they are many millions.
    "ALTER TABLE skyfill.repo SET (fillfactor = 95, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02)",
    // Following the event stream, see [`follow`].
    follow::STEP,
    follow::OPENED_STEP,
    // Who loads, see [`workers`].
    workers::STEP,
    verified::RANGES_STEP,
    handles::STEP,
    changes::COMMITTED_STEP,
    identity::HEARD_STEP,
    follow::PROVED_STEP,
    // Records for other programs, see [`publication`].
    publication::STEP,
    follow::TOLD_STEP,
];

/// Makes the schema, or brings it up to date. Twice is a no-op, two at once wait for each other.
///
/// # Errors
/// The server refused, or it was stopped while it waited.
pub fn prepare(client: &mut Client, waits: Waits<'_>) -> Result<(), DbError> {
    let mut txn = client.transaction()?;
    locks::acquire(&mut txn, Lock::Schema, Hold::Transaction, waits)?;
    // Not by to_regclass: until its next transaction, a session remembers that a name was absent,
    // and this transaction began before it waited.
    let is_made = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables WHERE schemaname = 'skyfill' AND tablename = 'step')";
    if !txn.query_one(is_made, &[])?.get::<_, bool>(0) {
        txn.batch_execute(
            "SET LOCAL client_min_messages = warning;
             CREATE SCHEMA IF NOT EXISTS skyfill;
             CREATE TABLE skyfill.step (number integer PRIMARY KEY, ran_at timestamptz NOT NULL DEFAULT now())",
        )?;
    }
    let done: i64 = txn
        .query_one("SELECT count(*) FROM skyfill.step", &[])?
        .get(0);
    for (number, step) in (0i32..).zip(STEPS).skip(usize::try_from(done).unwrap_or(0)) {
        txn.batch_execute(step)?;
        txn.execute("INSERT INTO skyfill.step (number) VALUES ($1)", &[&number])?;
    }
    Ok(txn.commit()?)
}

/// Forgets all that is known of `schema` of the AppView, when that is dropped itself.
///
/// # Errors
/// The server refused.
pub fn forget_schema(client: &mut Client, schema: &str) -> Result<(), Error> {
    let mut txn = client.transaction()?;
    for table in [
        "dropped_ddl",
        "finalize_slice",
        "identity",
        "handle_count",
        "run",
        "listing",
        "host",
        "repo",
        "skipped",
        "part",
        "setting",
        "proof",
        "verified_range",
        "lost_claim",
        "finalized",
        "change",
        "tally",
        "host_count",
        "listed",
        "table_setting",
        "process",
        "stream",
        "followed",
        "behind",
        "skipped_change",
        "worker",
        "publication",
        "unpublished",
    ] {
        txn.execute(
            &format!("DELETE FROM skyfill.{table} WHERE schema_name = $1"),
            &[&schema],
        )?;
    }
    // Cursors of what was read for the schema name it at their end.
    txn.execute(
        "DELETE FROM skyfill.cursor WHERE name LIKE 'pass %' OR right(name, length($1) + 5) = ' for ' || $1",
        &[&schema],
    )?;
    txn.commit()
}

/// Whether the schema is there.
///
/// # Errors
/// The server refused.
pub fn exists(client: &mut Client) -> Result<bool, Error> {
    Ok(client
        .query_one("SELECT to_regclass('skyfill.dropped_ddl') IS NOT NULL", &[])?
        .get(0))
}
