//! How large a load is: threads, connections, requests and memory, from the machine and the server
//! where the operator did not choose them.

use load::indexes::Resources;
use process::{Database, Failure, Machine, connections};

const GIB: u64 = 1 << 30;
/// Memory of the process: an eighth of the machine's, within these bounds, but never more than
/// half.
const MEMORY: (u64, u64) = (GIB, 16 * GIB);
/// Memory of the process for each concurrent request. A sixteenth of it is for bodies that come in,
/// so each has 128 KiB before it goes to a file.
const MEMORY_OF_SLOT: u64 = 2 << 20;
/// Fewest and most concurrent requests. 45 million repos in 14 hours are 900 per second, and a
/// request takes a second or two.
const SLOTS: (u64, u64) = (256, 2048);
/// Files that the process has open beside its requests. A request has a connection, and perhaps a
/// file.
const OTHER_FILES: u64 = 256;
/// Fewest and most connections that load: a connection stores some 100,000 records per second on
/// one core of the server's.
const CONNECTIONS: (usize, usize) = (2, 16);
/// Accounts that are looked up concurrently.
pub(crate) const LOOK_UPS_AT_ONCE: usize = 32;
/// Connections that a server with default settings has for others than superusers.
const DEFAULT_CONNECTIONS: usize = 97;
/// Sessions of a load beside those that load and those of the encoding threads.
const OTHER_SESSIONS: usize = 6;

/// What the operator chose.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Threads that check and encode.
    pub threads: Option<usize>,
    /// Database connections.
    pub connections: Option<usize>,
    /// Concurrent requests.
    pub slots: Option<usize>,
    /// Memory of the whole process, in bytes.
    pub memory: Option<u64>,
    /// Memory of PostgreSQL's for index builds, in bytes.
    pub server_memory: Option<u64>,
}

/// How large a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Threads that check and encode.
    pub threads: usize,
    /// Connections that load, rebuild indexes and finalize.
    pub connections: usize,
    /// Concurrent requests, over all hosts.
    pub slots: usize,
    /// Memory of the whole process, in bytes.
    pub memory: u64,
    /// What index builds may take of the server.
    pub indexes: Resources,
}

impl Scale {
    /// What the operator chose, and for the rest what suits this machine and the server.
    ///
    /// # Errors
    /// The server refused.
    pub fn choose(wanted: &Wanted, database: &Database) -> Result<Self, Failure> {
        Self::choose_on(wanted, database, Machine::this(), database.machine())
    }

    /// The same, if skyfill ran on the machine `here`, and the server on `server`, where that is
    /// known.
    ///
    /// # Errors
    /// The server refused.
    pub fn choose_on(
        wanted: &Wanted,
        database: &Database,
        here: Machine,
        server: Option<Machine>,
    ) -> Result<Self, Failure> {
        let mut client = database.connect()?;
        let refused = |error| database.failure(error);
        let free = free_connections(&mut client).map_err(refused)?;
        let builds = |connections| {
            Resources::of_server(&mut client, server, connections, wanted.server_memory)
        };
        Self::with(wanted, here, free, builds).map_err(refused)
    }

    /// The same, on a machine with a server that has the settings of the private PostgreSQL.
    #[must_use]
    pub fn assumed(wanted: &Wanted, here: Machine) -> Self {
        let builds = |connections| -> Result<Resources, std::convert::Infallible> {
            Ok(Resources::assumed(here, connections, wanted.server_memory))
        };
        match Self::with(wanted, here, DEFAULT_CONNECTIONS, builds) {
            Ok(scale) => scale,
        }
    }

    /// `builds` says what index builds over so many connections may take of the server.
    fn with<E>(
        wanted: &Wanted,
        here: Machine,
        free: usize,
        builds: impl FnOnce(usize) -> Result<Resources, E>,
    ) -> Result<Self, E> {
        let threads = wanted.threads.unwrap_or(here.cores);
        let connections = wanted
            .connections
            .unwrap_or_else(|| connections_for(here.cores, threads, free));
        let memory = wanted.memory.unwrap_or_else(|| memory_of(here.memory));
        let slots = wanted
            .slots
            .unwrap_or_else(|| slots_for(memory, connections::most_files()));
        Ok(Self {
            threads,
            connections,
            slots,
            memory,
            indexes: builds(connections)?,
        })
    }

    /// All of it on a line, each with the argument that changes it.
    #[must_use]
    pub fn line(&self) -> String {
        let Self {
            threads,
            connections,
            slots,
            memory,
            indexes,
        } = self;
        format!(
            "sizes: threads {threads} (--threads), database connections {connections} (--max-db-connections), concurrent requests {slots} \
             (--concurrency), memory {} (--memory), PostgreSQL's memory for index builds {} (--server-memory)",
            observe::bytes(*memory),
            observe::bytes(indexes.memory)
        )
    }
}

fn connections_for(cores: usize, threads: usize, free: usize) -> usize {
    let others = threads + OTHER_SESSIONS;
    let most = free.saturating_sub(others).max(1);
    (cores / 2).clamp(CONNECTIONS.0, CONNECTIONS.1).min(most)
}

fn memory_of(machine: u64) -> u64 {
    (machine / 8).clamp(MEMORY.0, MEMORY.1).min(machine / 2)
}

fn slots_for(memory: u64, files: Option<u64>) -> usize {
    let slots = (memory / MEMORY_OF_SLOT).clamp(SLOTS.0, SLOTS.1);
    let of_files = files.map_or(slots, |files| files.saturating_sub(OTHER_FILES) / 2);
    usize::try_from(slots.min(of_files).max(1)).unwrap_or(1)
}

/// Connections that the server has left for this role and database.
pub(crate) fn free_connections(client: &mut postgres::Client) -> Result<usize, postgres::Error> {
    let row = client.query_one(
        "SELECT least(
             current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
             (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user),
             (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database()))
           - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')",
        &[],
    )?;
    let free = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
    Ok(free + pg::idle_connections())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_machine_and_a_large_one_have_their_own_defaults() {
        // 2 cores and 4 GiB.
        assert_eq!(connections_for(2, 2, 97), 2);
        assert_eq!(memory_of(4 * GIB), GIB);
        assert_eq!(slots_for(GIB, Some(20_000)), 512);
        // 64 cores and 256 GiB.
        assert_eq!(connections_for(64, 64, 97), 16);
        assert_eq!(memory_of(256 * GIB), 16 * GIB);
        assert_eq!(slots_for(16 * GIB, None), 2048);
        // What there is of connections, memory and files is not exceeded.
        assert_eq!(connections_for(64, 64, 75), 5);
        assert_eq!(connections_for(64, 64, 3), 1);
        assert_eq!(memory_of(GIB), GIB / 2);
        assert_eq!(slots_for(16 * GIB, Some(1024)), 384);
        assert_eq!(slots_for(16 * GIB, Some(100)), 1);
    }
}
