//! The server: how it is reached, whether it can hold the rows, and its settings.

use crate::{Finding, Level};
use load::indexes::Resources;
use pg::SslMode;
use postgres::Client;
use process::checks::Server;
use process::{Database, Failure};
use std::collections::HashMap;

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

/// The way to the server: whether it is encrypted, and whether the server was checked.
pub(crate) fn way(client: &mut Client, database: &Database) -> Result<Vec<Finding>, Failure> {
    let shown = database.shown();
    let connection = Finding::ok("connection", format!("connected to {shown}"));
    let settings = pg::Settings::of(&database.url).map_err(|error| database.db_failure(&error))?;
    let servers = settings
        .servers()
        .map_err(|error| database.db_failure(&error))?;
    let mode = settings
        .ssl_mode()
        .map_err(|error| database.db_failure(&error))?;
    let row = client
        .query_one(
            "SELECT coalesce(ssl, false), version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
            &[],
        )
        .map_err(|error| database.failure(error))?;
    let is_encrypted: bool = row.get(0);
    let is_remote = servers.iter().any(pg::Server::is_remote);
    let tls = if is_encrypted {
        let (version, cipher): (Option<String>, Option<String>) = (row.get(1), row.get(2));
        let found = format!(
            "encrypted with {} ({}), sslmode {}",
            version.unwrap_or_default(),
            cipher.unwrap_or_default(),
            mode.word()
        );
        let tls = Finding::ok("TLS", found);
        if mode < SslMode::VerifyCa && is_remote {
            tls.but(
                Level::Note,
                "nobody checks that the other end is your server",
            )
            .change("sslmode=verify-full and sslrootcert=FILE in BSKY_DB_POSTGRES_URL")
        } else {
            tls
        }
    } else if is_remote {
        Finding::ok("TLS", "the connection leaves this machine without TLS").but(
            Level::Warning,
            "whoever is on the way can read and change what travels, and take the session over",
        )
        .change("ssl = on on the server; sslmode=verify-full and sslrootcert=FILE in BSKY_DB_POSTGRES_URL")
    } else {
        Finding::ok("TLS", "not needed: the connection stays on this machine")
    };
    Ok(vec![connection, tls])
}

/// Whether the server and the database can hold the rows.
pub(crate) fn fitness(client: &mut Client, database: &Database) -> Result<Vec<Finding>, Failure> {
    let server = Server::of(client).map_err(|error| database.failure(error))?;
    if let Err(failure) = server.require_fit(&database.shown()) {
        return Ok(vec![Finding::of_failure("version", &failure)]);
    }
    let row = client
        .query_one(
            "SELECT current_setting('server_version'), current_setting('transaction_read_only') = 'on'",
            &[],
        )
        .map_err(|error| database.failure(error))?;
    let version: String = row.get(0);
    let mut findings = vec![
        Finding::ok("version", format!("PostgreSQL {version}")),
        Finding::ok("encoding", "UTF8"),
    ];
    findings.push(match server.collation_note() {
        None => Finding::ok("collation", "C"),
        Some(note) => Finding::ok("collation", note)
            .but(Level::Note, "the rows are the same")
            .change("CREATE DATABASE name TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"),
    });
    if row.get(1) {
        findings.push(
            Finding::ok("read-only", "transactions are read-only by default")
                .but(Level::Problem, "nothing can be stored")
                .change("ALTER ROLE CURRENT_USER SET default_transaction_read_only = off"),
        );
    }
    Ok(findings)
}

/// The settings of the server that a load feels, as numbers and words.
struct Values(HashMap<String, String>);

impl Values {
    /// A setting; bytes and seconds are numbers.
    fn number(&self, name: &str) -> i64 {
        self.word(name).parse().unwrap_or_default()
    }

    fn word(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }
}

/// Bytes where the unit is one of memory, milliseconds where it is one of time.
const VALUES: &str = "SELECT name, CASE
    WHEN unit = 'B' THEN setting WHEN unit = '8kB' THEN (setting::bigint * 8192)::text
    WHEN unit = 'kB' THEN (setting::bigint * 1024)::text WHEN unit = 'MB' THEN (setting::bigint * 1048576)::text
    WHEN unit = 's' THEN (setting::bigint * 1000)::text ELSE setting END FROM pg_settings";

fn values(client: &mut Client, database: &Database) -> Result<Values, Failure> {
    let rows = client
        .query(VALUES, &[])
        .map_err(|error| database.failure(error))?;
    let values = rows.iter().map(|row| {
        (
            row.get(0),
            row.get::<_, Option<String>>(1).unwrap_or_default(),
        )
    });
    Ok(Values(values.collect()))
}

/// A number of bytes for people.
pub(crate) fn size(bytes: i64) -> String {
    if bytes >= GIB {
        format!("{:.1} GiB", to_float(bytes) / to_float(GIB))
    } else {
        format!("{} MiB", bytes / MIB)
    }
}

/// Close enough for people.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn to_float(number: i64) -> f64 {
    number as f64
}

/// The settings that a load feels.
pub(crate) fn settings(
    client: &mut Client,
    database: &Database,
    connections: usize,
) -> Result<Vec<Finding>, Failure> {
    let values = values(client, database)?;
    let builds = Resources::of_server(client, database.machine(), connections, None);
    let builds = builds.map_err(|error| database.failure(error))?;
    let mut findings = memory_and_wal(&values);
    findings.extend(index_builds(&values, builds));
    findings.extend(durability(&values));
    findings.extend(replication(client, database, &values)?);
    Ok(findings)
}

fn memory_and_wal(values: &Values) -> Vec<Finding> {
    let set = |line: &str| format!("ALTER SYSTEM SET {line}; SELECT pg_reload_conf()");
    let buffers = values.number("shared_buffers");
    let shared = Finding::ok("shared_buffers", size(buffers));
    let means = "merges and finalize look rows up in indexes, and read them from disk where they do not fit";
    let change =
        "ALTER SYSTEM SET shared_buffers = '8GB', then restart (a quarter of the server's memory)";
    let shared = match buffers {
        ..268_435_456 => shared.but(Level::Warning, means).change(change),
        268_435_456..GIB => shared.but(Level::Note, means).change(change),
        _ => shared,
    };
    let wal = values.number("max_wal_size");
    let max_wal = Finding::ok("max_wal_size", size(wal));
    let max_wal = if wal < 4 * GIB {
        max_wal
            .but(
                Level::Warning,
                "a load writes more WAL than that between two checkpoints, so they come early, and pages are written to WAL whole each time",
            )
            .change(set("max_wal_size = '16GB'"))
    } else {
        max_wal
    };
    let pause = values.number("checkpoint_timeout") / 1000;
    let checkpoints = Finding::ok("checkpoint_timeout", format!("{pause} s"));
    let checkpoints = if pause < 600 {
        checkpoints
            .but(
                Level::Note,
                "fewer checkpoints write fewer whole pages to WAL",
            )
            .change(set("checkpoint_timeout = '15min'"))
    } else {
        checkpoints
    };
    let compression = Finding::ok("wal_compression", values.word("wal_compression"));
    let compression = if values.word("wal_compression") == "off" {
        compression
            .but(Level::Note, "whole pages take several times as much WAL")
            .change(set("wal_compression = on"))
    } else {
        compression
    };
    vec![shared, max_wal, checkpoints, compression]
}

/// The settings that index builds feel, with what skyfill takes of the server for `builds`.
fn index_builds(values: &Values, builds: Resources) -> Vec<Finding> {
    let budget = i64::try_from(builds.memory).unwrap_or(i64::MAX);
    let maintenance = Finding::ok(
        "maintenance_work_mem",
        format!(
            "{}; skyfill sets its own: {} for {} index builds at once (--server-memory)",
            size(values.number("maintenance_work_mem")),
            size(budget),
            builds.builds
        ),
    );
    let workers = values.number("max_parallel_maintenance_workers");
    let parallel = Finding::ok("max_parallel_maintenance_workers", workers.to_string());
    let parallel = if workers == 0 {
        parallel
            .but(Level::Note, "each index build uses one core")
            .change(
                "ALTER SYSTEM SET max_parallel_maintenance_workers = 2; SELECT pg_reload_conf()",
            )
    } else {
        parallel
    };
    vec![maintenance, parallel]
}

fn durability(values: &Values) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["fsync", "full_page_writes"] {
        if values.word(name) == "off" {
            findings.push(
                Finding::ok(name, "off")
                    .but(
                        Level::Note,
                        "a crash of the server's machine can destroy the whole cluster",
                    )
                    .change(format!(
                        "ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"
                    )),
            );
        }
    }
    let commit = values.word("synchronous_commit");
    findings.push(Finding::ok(
        "synchronous_commit",
        format!("{commit}; skyfill sets its own: a fresh load does not wait, a merge does"),
    ));
    let vacuum = Finding::ok("autovacuum", values.word("autovacuum"));
    findings.push(if values.word("autovacuum") == "on" {
        vacuum
    } else {
        vacuum
            .but(
                Level::Warning,
                "dead rows of merges stay, statistics grow old, and at last the server stops to avoid wraparound",
            )
            .change("ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()")
    });
    findings
}

fn replication(
    client: &mut Client,
    database: &Database,
    values: &Values,
) -> Result<Vec<Finding>, Failure> {
    let level = values.word("wal_level");
    let archive = values.word("archive_mode");
    let wal = Finding::ok("wal_level", format!("{level}, archive_mode {archive}"));
    let wal = if archive == "off" || archive.is_empty() {
        wal
    } else {
        wal.but(
            Level::Note,
            "all WAL of the load goes through archive_command; if that is slower than the load, WAL fills the disk",
        )
        .change("watch pg_stat_archiver and pg_wal; take a base backup after the load")
    };
    let mut findings = vec![wal];
    let standbys = values.word("synchronous_standby_names");
    if !standbys.is_empty() {
        findings.push(
            Finding::ok("synchronous_standby_names", standbys)
                .but(Level::Note, "each commit of a merge waits for a standby"),
        );
    }
    let idle = client
        .query(
            "SELECT slot_name::text FROM pg_replication_slots WHERE NOT active ORDER BY 1",
            &[],
        )
        .map_err(|error| database.failure(error))?;
    let idle: Vec<String> = idle.iter().map(|row| row.get(0)).collect();
    if let Some(first) = idle.first() {
        findings.push(
            Finding::ok(
                "replication slots",
                format!("nobody reads from {}", idle.join(", ")),
            )
            .but(
                Level::Warning,
                "the server keeps all WAL for them, so a load fills its disk",
            )
            .change(format!("SELECT pg_drop_replication_slot('{first}')")),
        );
    }
    Ok(findings)
}

/// What connections there are, and what a load needs.
pub(crate) fn connections(
    client: &mut Client,
    database: &Database,
    wanted: usize,
) -> Result<Vec<Finding>, Failure> {
    let row = client
        .query_one(
            "SELECT current_setting('max_connections')::bigint,
               current_setting('superuser_reserved_connections')::bigint,
               (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
               (SELECT rolconnlimit::bigint FROM pg_roles WHERE rolname = current_user),
               (SELECT datconnlimit::bigint FROM pg_database WHERE datname = current_database())",
            &[],
        )
        .map_err(|error| database.failure(error))?;
    let get = |at: usize| -> i64 { row.get(at) };
    let limits = [get(3), get(4)].into_iter().filter(|limit| *limit >= 0);
    let most = limits.chain([get(0) - get(1)]).min().unwrap_or_default();
    let idle = i64::try_from(pg::idle_connections()).unwrap_or(0);
    let (free, needed) = (most - get(2) + idle, needed(wanted));
    let found = Finding::ok(
        "max_connections",
        format!("{free} of {most} are free; a load takes up to {needed}"),
    );
    Ok(vec![if free < needed {
        found
            .but(Level::Problem, "a load would be refused connections")
            .change(
                "ALTER SYSTEM SET max_connections = 100, then restart; or fewer --max-db-connections",
            )
    } else {
        found
    }])
}

/// The connections of a run: one per loading thread, one for each encoder's questions, and those of
/// the feeder, the leases, the settings and the look-ups.
fn needed(loading: usize) -> i64 {
    let encoders = std::thread::available_parallelism().map_or(1, usize::from);
    i64::try_from(loading + encoders + 6).unwrap_or(i64::MAX)
}

/// The free disk on the server, where this machine can see it.
pub(crate) fn disk(client: &mut Client, database: &Database) -> Result<Vec<Finding>, Failure> {
    let room = database.room(client)?;
    let used = size(i64::try_from(room.used).unwrap_or(i64::MAX));
    let (folder, free) = match room.free {
        Ok(seen) => seen,
        Err(unseen) => {
            let found = format!("the database has {used}; {}", unseen.why());
            return Ok(vec![
                Finding::ok("disk", found)
                    .but(
                        Level::Note,
                        "a load that fills the disk waits until there is room, and goes on",
                    )
                    .change("df -h on the server's data folder"),
            ]);
        }
    };
    let free = i64::try_from(free).unwrap_or(i64::MAX);
    let found = Finding::ok(
        "disk",
        format!(
            "{} free at {}; the database has {used}",
            size(free),
            folder.display(),
        ),
    );
    Ok(vec![match free {
        ..GIB => found
            .but(Level::Problem, "a load would stand still at once")
            .change("make room there, or move the cluster"),
        GIB..21_474_836_480 => found
            .but(
                Level::Note,
                "enough for a few million records with their indexes and WAL",
            )
            .change("skyfill plan says what a load needs"),
        _ => found,
    }])
}
