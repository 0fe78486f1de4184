//! What index builds may take of the server: a memory budget of PostgreSQL's, apart from skyfill's
//! own, and a number of processes.

use postgres::{Client, Error};
use process::Machine;

const MIB: u64 = 1 << 20;
/// The least budget that is chosen without being told: what two builds took in earlier versions.
const LEAST: u64 = 512 * MIB;
/// A build with less memory is slower for no reason.
const LEAST_OF_BUILD: u64 = 64 * MIB;
/// The least and the most that `maintenance_work_mem` can be set to.
const SETTING: (u64, u64) = (MIB, 1 << 40);

/// The bounds of `shared_buffers` in the private PostgreSQL (`pgbox`), and its parallel workers:
/// as many as there are cores, and these at least.
const PRIVATE_BUFFERS: (u64, u64) = (128 * MIB, 8 << 30);
const PRIVATE_WORKERS: usize = 8;

/// What builds may take of the server, all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Builds at once, each on a connection.
    pub builds: usize,
    /// Memory of all builds at once, in bytes: the sum of their `maintenance_work_mem`.
    pub memory: u64,
    /// Processes that sort for all builds at once: one per build, and parallel workers.
    pub processes: usize,
}

/// What one build takes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Its `maintenance_work_mem`, in bytes.
    pub(super) memory: u64,
    /// Its processes.
    pub(super) processes: usize,
}

/// What the server says of itself.
struct Settings {
    shared_buffers: u64,
    maintenance_work_mem: u64,
    /// Parallel workers that all sessions may have together, 0 if none may be used for maintenance.
    workers: usize,
}

impl Resources {
    /// What a server can spare for `builds` at once. `machine` is the server's machine, where that
    /// is known; `memory` a budget that the operator chose.
    ///
    /// # Errors
    /// The server refused.
    pub fn of_server(
        client: &mut Client,
        machine: Option<Machine>,
        builds: usize,
        memory: Option<u64>,
    ) -> Result<Self, Error> {
        let row = client.query_one(
            "SELECT pg_size_bytes(current_setting('shared_buffers')),
               pg_size_bytes(current_setting('maintenance_work_mem')),
               CASE WHEN current_setting('max_parallel_maintenance_workers')::bigint = 0 THEN 0
                 ELSE least(current_setting('max_parallel_workers')::bigint,
                   current_setting('max_worker_processes')::bigint) END",
            &[],
        )?;
        let number = |at: usize| -> Result<u64, Error> {
            Ok(u64::try_from(row.try_get::<_, i64>(at)?).unwrap_or(0))
        };
        let settings = Settings {
            shared_buffers: number(0)?,
            maintenance_work_mem: number(1)?,
            workers: usize::try_from(number(2)?).unwrap_or(0),
        };
        Ok(Self::of(&settings, machine, builds.max(1), memory))
    }

    /// What a server with the settings of the private PostgreSQL can spare on this machine.
    #[must_use]
    pub fn assumed(machine: Machine, builds: usize, memory: Option<u64>) -> Self {
        let settings = Settings {
            shared_buffers: (machine.memory / 4).clamp(PRIVATE_BUFFERS.0, PRIVATE_BUFFERS.1),
            maintenance_work_mem: LEAST_OF_BUILD,
            workers: machine.cores.max(PRIVATE_WORKERS),
        };
        Self::of(&settings, Some(machine), builds.max(1), memory)
    }

    /// A quarter of what the machine has beside the shared buffers. Of a machine that is not known,
    /// as much as the shared buffers, which by PostgreSQL's manual are a quarter of it.
    fn of(
        settings: &Settings,
        machine: Option<Machine>,
        builds: usize,
        memory: Option<u64>,
    ) -> Self {
        let of_builds = settings.maintenance_work_mem.saturating_mul(builds as u64);
        let chosen = match machine {
            Some(machine) => machine.memory.saturating_sub(settings.shared_buffers) / 4,
            None => settings.shared_buffers.max(of_builds),
        };
        let processes = builds.saturating_add(settings.workers);
        Self {
            builds,
            memory: memory.unwrap_or(chosen.max(LEAST)),
            processes: machine.map_or(processes, |machine| {
                processes.min(machine.cores.max(builds))
            }),
        }
    }

    /// What is left when these run.
    pub(super) fn without(&self, running: impl Iterator<Item = Share>) -> Self {
        let mut left = *self;
        for share in running {
            left.builds = left.builds.saturating_sub(1);
            left.memory = left.memory.saturating_sub(share.memory);
            left.processes = left.processes.saturating_sub(share.processes);
        }
        left
    }

    /// The share of the next of `waiting` builds, on a table with so many bytes: an equal one of
    /// what is left, so that the last ones get more. A sort never takes more memory than twice the
    /// table.
    pub(super) fn share(&self, waiting: usize, table_bytes: u64) -> Share {
        let next = self.builds.min(waiting).max(1);
        let useful = table_bytes.saturating_mul(2).max(LEAST_OF_BUILD);
        let memory = (self.memory / next as u64).min(useful);
        Share {
            memory: memory.clamp(SETTING.0, SETTING.1),
            processes: (self.processes / next).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn settings(workers: usize) -> Settings {
        Settings {
            shared_buffers: 8 * GIB,
            maintenance_work_mem: 64 * MIB,
            workers,
        }
    }

    fn machine(cores: usize, memory: u64) -> Option<Machine> {
        Some(Machine { cores, memory })
    }

    #[test]
    fn the_budget_is_of_the_machine_where_that_is_known() {
        let of = Resources::of(&settings(8), machine(64, 256 * GIB), 16, None);
        assert_eq!((of.builds, of.memory, of.processes), (16, 62 * GIB, 16 + 8));
        // More processes than cores gain nothing, and each build has one.
        let of = Resources::of(&settings(8), machine(2, 16 * GIB), 2, None);
        assert_eq!((of.memory, of.processes), (2 * GIB, 2));
        let of = Resources::of(&settings(8), machine(1, GIB), 4, None);
        assert_eq!((of.memory, of.processes), (LEAST, 4));
        // Of another machine, the settings are all that is known.
        let of = Resources::of(&settings(0), None, 4, None);
        assert_eq!((of.memory, of.processes), (8 * GIB, 4));
        let of = Resources::assumed(machine(64, 256 * GIB).expect("one"), 16, None);
        assert_eq!((of.builds, of.memory, of.processes), (16, 62 * GIB, 64));
        let of = Resources::of(&settings(8), None, 2, Some(100 * MIB));
        assert_eq!((of.memory, of.processes), (100 * MIB, 10));
    }

    #[test]
    fn shares_stay_within_the_budget_and_the_last_build_gets_what_is_left() {
        let all = Resources {
            builds: 4,
            memory: 8 * GIB,
            processes: 10,
        };
        let mut running: Vec<Share> = Vec::new();
        for waiting in (1..=4).rev() {
            let left = all.without(running.iter().copied());
            running.push(left.share(waiting, 100 * GIB));
        }
        let memory: u64 = running.iter().map(|share| share.memory).sum();
        let processes: usize = running.iter().map(|share| share.processes).sum();
        assert_eq!((memory, processes), (8 * GIB, 10), "{running:?}");
        let alone = all.share(1, 100 * GIB);
        assert_eq!((alone.memory, alone.processes), (8 * GIB, 10));
        // A small table needs little.
        assert_eq!(all.share(1, 10).memory, LEAST_OF_BUILD);
        assert_eq!(all.share(1, GIB).memory, 2 * GIB);
    }
}
