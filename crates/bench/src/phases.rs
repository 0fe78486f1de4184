//! One run of skyfill, phase by phase: CPU of both sides, WAL, pages, time. The ledger says when a
//! phase ends; it is asked every 20 milliseconds.

use crate::cpu::{self, ServerCpu};
use crate::scene::Scene;
use plan::Phase;
use postgres::Client;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The ledger is asked this often.
const EVERY: Duration = Duration::from_millis(20);

/// What a phase took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    pub(crate) seconds: f64,
    pub(crate) client: f64,
    pub(crate) server: f64,
    /// CPU seconds of all other processes of the machine meanwhile.
    pub(crate) others: f64,
    pub(crate) wal: f64,
    pub(crate) reads: f64,
    pub(crate) looks: f64,
}

impl Spent {
    fn since(self, before: Self) -> Self {
        Self {
            seconds: self.seconds - before.seconds,
            client: self.client - before.client,
            server: self.server - before.server,
            others: (self.others - before.others).max(0.0),
            wal: self.wal - before.wal,
            reads: self.reads - before.reads,
            looks: self.looks - before.looks,
        }
    }

    /// CPU seconds that so many cores had for it: what others took was not there.
    fn available(self, cores: f64) -> f64 {
        (cores * self.seconds - self.others).max(0.0)
    }

    /// The share of that which it used.
    pub(crate) fn busy(self, cores: f64) -> f64 {
        let available = self.available(cores).max(f64::MIN_POSITIVE);
        ((self.client + self.server) / available).clamp(0.05, 1.0)
    }

    /// The time without others beside it.
    pub(crate) fn alone(self, cores: f64) -> f64 {
        self.available(cores) / cores
    }
}

/// Runs a command that begins with the phase of loading, to its end; what each phase took.
pub(crate) fn run(scene: &Scene, database: &str, command: &mut Command) -> Vec<(Phase, Spent)> {
    let mut client = scene.connect(database);
    let mut measure = Measure {
        server: scene.server_cpu(),
        began: Instant::now(),
        client_cpu: 0.0,
    };
    let mut before = measure.now(&mut client);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run it");
    let (mut phase, mut spent) = (Some(Phase::Load), Vec::new());
    loop {
        let status = measure.wait(&mut child);
        let now = match status {
            Some(_) => None,
            None => phase_of(&mut client),
        };
        if now != phase {
            let after = measure.now(&mut client);
            spent.extend(phase.map(|phase| (phase, after.since(before))));
            (before, phase) = (after, now);
        }
        if let Some(status) = status {
            assert!(status.success(), "{command:?}: {status}");
            return spent;
        }
    }
}

/// The phase that the run is in; loading, as long as none has begun.
fn phase_of(client: &mut Client) -> Option<Phase> {
    let last = ledger::runs::last(client, "bsky");
    let Ok(Some(run)) = last else {
        return Some(Phase::Load);
    };
    let word = run.phase.word();
    Phase::ALL.into_iter().find(|phase| phase.word() == word)
}

struct Measure {
    server: ServerCpu,
    began: Instant,
    client_cpu: f64,
}

impl Measure {
    /// Waits a little; how the child ended, if it did.
    fn wait(&mut self, child: &mut Child) -> Option<std::process::ExitStatus> {
        self.client_cpu = self.client_cpu.max(cpu::of_process(child.id()));
        let ended = child.try_wait().expect("wait");
        if ended.is_none() {
            std::thread::sleep(EVERY);
        }
        ended
    }

    /// All counters as they are now.
    #[allow(clippy::cast_precision_loss)]
    fn now(&mut self, client: &mut Client) -> Spent {
        let row = client
            .query_one(
                "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8, blks_read::float8, (blks_read + blks_hit)::float8
                 FROM pg_stat_database WHERE datname = current_database()",
                &[],
            )
            .expect("counters");
        let server = self.server.seconds();
        Spent {
            seconds: self.began.elapsed().as_secs_f64(),
            client: self.client_cpu,
            server,
            others: cpu::of_machine() - self.client_cpu - server,
            wal: row.get(0),
            reads: row.get(1),
            looks: row.get(2),
        }
    }
}
