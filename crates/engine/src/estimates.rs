//! What a load is going to take: the inputs of a [`plan::Plan`], from the ledger, the server and
//! this machine.

use crate::identities::{self, Documents};
use crate::run::{LOOK_UPS_AT_ONCE, Scale};
use crate::verify;
use discover::did_file;
use ledger::repos::{self, PendingAt};
use load::freeze;
use plan::{Basis, Choice, Fullest, HOST_RATE, Inputs, Machine, Sizes, Work, average_records};
use postgres::Client;
use process::{Database, Failure};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// So many hosts of a DID file are told apart. The repos of all others count, but not as those of
/// one host: what a file says costs no more memory than this.
const MOST_HOSTS: usize = 100_000;
/// Loaded repos from which on their records per repo say more than those of the full network.
const ENOUGH_REPOS: u64 = 10_000;
/// The `max_wal_size` of the private PostgreSQL.
const PRIVATE_WAL: u64 = 8 << 30;

/// The server's settings that a plan needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// `shared_buffers`, in bytes.
    pub shared_buffers: u64,
    /// `max_wal_size`, in bytes.
    pub max_wal: u64,
}

impl Server {
    /// Asks it.
    ///
    /// # Errors
    /// The server refused.
    pub fn of(client: &mut Client) -> Result<Self, postgres::Error> {
        let row = client.query_one(
            "SELECT pg_size_bytes(current_setting('shared_buffers')), pg_size_bytes(current_setting('max_wal_size'))",
            &[],
        )?;
        let bytes = |at| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
        Ok(Self {
            shared_buffers: bytes(0),
            max_wal: bytes(1),
        })
    }

    /// The same of a database, with the server's version.
    ///
    /// # Errors
    /// The server cannot be reached, or refused.
    pub fn asked(database: &Database) -> Result<(Self, String), Failure> {
        let refused = |error: postgres::Error| database.failure(error);
        let mut client = database.connect()?;
        let version = "SELECT split_part(current_setting('server_version'), ' ', 1)";
        let version = client.query_one(version, &[]).map_err(refused)?;
        let server = Self::of(&mut client).map_err(refused)?;
        Ok((server, version.get(0)))
    }

    /// The private PostgreSQL on a machine with so much memory.
    #[must_use]
    pub fn private(memory: u64) -> Self {
        Self {
            shared_buffers: (memory / 4).clamp(128 << 20, 8 << 30),
            max_wal: PRIVATE_WAL,
        }
    }
}

/// What is pending in a database.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    /// How much.
    pub work: Work,
    /// Whether the tables have rows: what is pending is merged.
    pub is_merge: bool,
}

/// What is pending in a database; nothing, if it has no ledger or that knows of no repo.
///
/// # Errors
/// The server cannot be reached, or refused.
pub fn pending(database: &Database) -> Result<Option<Pending>, Failure> {
    let refused = |error: postgres::Error| database.failure(error);
    let mut client = database.connect()?;
    if !ledger::exists(&mut client).map_err(refused)? {
        return Ok(None);
    }
    database.require_trusted(&mut client)?;
    let last = ledger::runs::last(&mut *client, &database.schema).map_err(refused)?;
    let work = of_ledger(&mut client, &database.schema).map_err(refused)?;
    Ok(work.map(|work| Pending {
        work,
        is_merge: last.is_some_and(|run| run.phase != ledger::runs::Phase::Load),
    }))
}

/// What is pending, by the ledger; nothing, if it knows of no repo at all.
///
/// # Errors
/// The server refused.
pub fn of_ledger(client: &mut Client, schema: &str) -> Result<Option<Work>, postgres::Error> {
    let pending = repos::pending(client, schema)?;
    let (coverage, stored) = ledger::coverage::Coverage::kept(client, schema)?;
    if pending.repos == 0 && coverage.count(|_| true) == 0 {
        return Ok(None);
    }
    let loaded = coverage.count(|state| state == ledger::states::State::Loaded);
    let (records, basis) = match loaded {
        ENOUGH_REPOS.. => {
            let records = plan::in_proportion(pending.repos, stored.records, loaded);
            (records, Basis::LedgerAndLoaded)
        }
        _ => (average_records(pending.repos), Basis::Ledger),
    };
    Ok(Some(Work {
        repos: pending.repos,
        records,
        hosts: pending.hosts,
        fullest: slowest(&pending.fullest),
        basis,
    }))
}

/// The host that takes the longest, by its repos and by what was learned of its limits.
fn slowest(hosts: &[PendingAt]) -> Option<Fullest> {
    let all = hosts.iter().map(|host| Fullest {
        name: Some(host.host.clone()),
        repos: host.repos,
        rate: host.learned.as_deref().map_or(HOST_RATE, learned_rate),
    });
    all.max_by(|a, b| a.seconds().total_cmp(&b.seconds()))
}

/// The rate that is known of a host, in requests per second.
fn learned_rate(stored: &str) -> f64 {
    let learned: fetch::schedule::Learned = serde_json::from_str(stored).unwrap_or_default();
    let announced = learned
        .limit
        .map(|limit| f64::from(limit.requests) / limit.seconds);
    let rates = [announced, learned.ceiling].into_iter().flatten();
    let sound = rates.filter(|rate| rate.is_finite() && *rate > 0.001);
    sound
        .fold(None, |least: Option<f64>, rate| {
            Some(least.map_or(rate, |least| least.min(rate)))
        })
        .unwrap_or(HOST_RATE)
}

/// The repos of a DID file.
///
/// # Errors
/// It cannot be read.
pub fn of_did_file(reader: impl BufRead) -> std::io::Result<Work> {
    let mut hosts: HashMap<String, u64> = HashMap::new();
    let mut repos = 0u64;
    for line in did_file::read(reader, 0, 0) {
        let Ok(line) = line? else {
            continue;
        };
        repos += 1;
        let host = fetch::hosts::host_of(&line.pds);
        if hosts.len() < MOST_HOSTS || hosts.contains_key(&host) {
            *hosts.entry(host).or_default() += 1;
        }
    }
    let fullest = hosts.iter().max_by_key(|(host, repos)| (**repos, *host));
    let fullest = fullest.map(|(host, repos)| Fullest {
        name: Some(host.clone()),
        repos: *repos,
        rate: HOST_RATE,
    });
    Ok(Work {
        repos,
        records: average_records(repos),
        hosts: hosts.len() as u64,
        fullest,
        basis: Basis::Named,
    })
}

/// The sizes of a load by a skyfill on a machine with so many cores.
#[must_use]
pub fn sizes(
    cores: usize,
    scale: &Scale,
    server: Server,
    documents: Documents,
    directory_rate: f64,
) -> Sizes {
    Sizes {
        threads: scale.threads,
        connections: scale.connections,
        slots: scale.slots,
        memory: scale.memory,
        builds: scale.indexes.builds,
        build_memory: scale.indexes.memory,
        build_processes: scale.indexes.processes,
        shared_buffers: server.shared_buffers,
        max_wal: server.max_wal,
        freeze_step: freeze::step(server.shared_buffers),
        freeze_part: freeze::PART_OF_TABLE,
        verifiers: cores.min(verify::MOST_THREADS),
        look_ups: LOOK_UPS_AT_ONCE,
        directory_rate,
        claims_from: identities::MANY,
        export_from: match documents {
            Documents::Auto => identities::MANY,
            Documents::Export => 0,
            Documents::Single => u64::MAX,
        },
    }
}

/// The inputs of a plan for a database, on this machine.
///
/// # Errors
/// The server refused.
pub fn inputs(
    database: &Database,
    client: &mut Client,
    work: Work,
    sizes: Sizes,
    choice: Choice,
) -> Result<Inputs, Failure> {
    let here = process::Machine::this();
    let room = database.room(client)?;
    Ok(Inputs {
        work,
        machine: Machine {
            cores: here.cores,
            memory: here.memory,
            free: room.free.ok().map(|(_, free)| free),
            disk_rate: None,
            is_shared: database.machine().is_some(),
        },
        sizes,
        choice,
    })
}

/// Bytes that the measurement of a disk writes at most, and for how long.
const MEASURED_BYTES: u64 = 2 << 30;
const MEASURED_FOR: Duration = Duration::from_secs(5);
/// Bytes that it writes at once.
const BLOCK: usize = 8 << 20;

/// What a disk writes per second, in bytes: an unnamed file on the file system of `folder` is
/// written in one stream and synced. At most an eighth of the free space is used.
///
/// # Errors
/// No file can be written there.
pub fn measure_disk(folder: &Path) -> Result<u64, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!(
            "cannot measure the disk of {}: {error}",
            folder.display()
        ))
        .hint("run it as a user who may write there, or give the rate with --disk-rate")
    };
    let file = file_beside(folder).map_err(failed)?;
    let most = process::free_at(folder).unwrap_or(0) / 8;
    let blocks = most.min(MEASURED_BYTES) / BLOCK as u64;
    if blocks == 0 {
        return Err(failed(std::io::Error::other("it is nearly full")));
    }
    // What could be compressed would say nothing.
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut block: Vec<u8> = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        block.extend_from_slice(&seed.to_le_bytes());
    }
    let began = Instant::now();
    let mut written = 0u64;
    while written < blocks * BLOCK as u64 && began.elapsed() < MEASURED_FOR {
        block.rotate_left(1);
        (&file).write_all(&block).map_err(failed)?;
        written += BLOCK as u64;
    }
    file.sync_all().map_err(failed)?;
    let nanoseconds = began.elapsed().as_nanos().max(1);
    let rate = u128::from(written) * 1_000_000_000 / nanoseconds;
    Ok(u64::try_from(rate).unwrap_or(u64::MAX).max(1))
}

/// An unnamed file in `folder`, or in the nearest one above it on the same file system in which
/// this user may make one: a server's data folder is closed to others.
fn file_beside(folder: &Path) -> std::io::Result<File> {
    let folder = std::path::absolute(folder)?;
    let mut device = None;
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for place in folder.ancestors() {
        let Ok(about) = std::fs::metadata(place) else {
            continue;
        };
        if about.dev() != *device.get_or_insert(about.dev()) {
            break;
        }
        match tempfile::tempfile_in(place) {
            Ok(file) => return Ok(file),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    #[test]
    fn the_slowest_host_is_not_always_the_fullest() {
        let at = |host: &str, repos, learned: Option<&str>| PendingAt {
            host: host.to_owned(),
            repos,
            learned: learned.map(str::to_owned),
        };
        let slow = r#"{"limit":{"requests":100,"seconds":100.0},"lessons":0}"#;
        let hosts = [at("full", 5000, None), at("slow", 1000, Some(slow))];
        let found = slowest(&hosts).unwrap();
        assert_eq!((found.name.as_deref(), found.rate), (Some("slow"), 1.0));
        assert_eq!(slowest(&[]), None);
        // What was stored can be anything.
        for odd in [
            "",
            "{}",
            r#"{"limit":{"requests":1,"seconds":0.0}}"#,
            r#"{"ceiling":-1}"#,
        ] {
            assert_eq!(learned_rate(odd), HOST_RATE, "{odd}");
        }
        assert_eq!(learned_rate(r#"{"ceiling":2.5}"#), 2.5);
    }

    #[test]
    fn a_did_file_has_its_repos_by_host() {
        let line = |n: u32, host: &str| {
            let did = format!("did:plc:{n:0>24}").replace(['0', '1', '8', '9'], "a");
            format!("[\"{did}\",\"https://{host}\"]\n")
        };
        let text =
            line(2, "a.example") + "nonsense\n" + &line(3, "a.example") + &line(4, "b.example");
        let work = of_did_file(text.as_bytes()).unwrap();
        assert_eq!((work.repos, work.hosts, work.records), (3, 2, 1333));
        let fullest = work.fullest.unwrap();
        assert_eq!(
            (fullest.name.as_deref(), fullest.repos),
            (Some("a.example"), 2)
        );
    }

    #[test]
    fn a_file_for_the_measurement_is_made_above_a_folder_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        assert!(file_beside(&folder.path().join("data/pgdata")).is_ok());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
