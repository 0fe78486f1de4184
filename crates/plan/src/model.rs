//! The arithmetic: phases on one clock.
//!
//! Each phase takes as long as what bounds it: the largest of what the hosts, the cores, the
//! connections, one process and the disk need, each alone. Phases run one after the other.

use crate::costs::{Costs, PhaseCost, to_float};
use crate::disk::{Disk, unfrozen};
use crate::inputs::{Handles, Inputs};
use crate::phase::Phase;

/// Seconds that a request for a repo takes, from its slot's beginning to its end.
const REQUEST_SECONDS: f64 = 1.0;
/// Seconds that the check of a handle takes.
const HANDLE_SECONDS: f64 = 0.15;
/// Seconds that it takes to store a handle as claimed, one after the other: skyfill's CPU and
/// PostgreSQL's, as measured for 290,000 accounts (docs/explanation/plan.md).
const CLAIM_SECONDS: f64 = 0.000_06;

/// Seconds that it takes to verify the handles of so many accounts, so many at once.
#[must_use]
pub fn seconds_of_handles(accounts: u64, at_once: usize) -> f64 {
    to_float(accounts) * HANDLE_SECONDS / to_float(at_once.max(1) as u64)
}

/// What bounds a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The fullest host answers no faster.
    Hosts,
    /// Concurrent requests.
    Requests,
    /// The threads that check and encode.
    Threads,
    /// The database connections: each keeps one core of the server's busy.
    Connections,
    /// The cores of skyfill and PostgreSQL together.
    Cores,
    /// The processes that sort for index builds, by PostgreSQL's settings.
    Builds,
    /// The largest index, which a share of them builds.
    LargestIndex,
    /// The table with the most to freeze, which one process vacuums.
    LargestTable,
    /// The disk.
    Disk,
    /// The connections that compare.
    Verifiers,
    /// The accounts that are looked up at once.
    LookUps,
    /// The one connection that stores accounts.
    Accounts,
    /// The PLC directory, which answers for one account at a time.
    Directory,
}

impl Bound {
    /// Its word, for programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hosts => "hosts",
            Self::Requests => "requests",
            Self::Threads => "threads",
            Self::Connections => "connections",
            Self::Cores => "cores",
            Self::Builds => "builds",
            Self::LargestIndex => "largestIndex",
            Self::LargestTable => "largestTable",
            Self::Disk => "disk",
            Self::Verifiers => "verifiers",
            Self::LookUps => "lookUps",
            Self::Accounts => "accounts",
            Self::Directory => "directory",
        }
    }
}

/// How long a phase takes.
#[derive(Clone, Debug, PartialEq)]
pub struct PhaseTime {
    /// The phase.
    pub phase: Phase,
    /// What each bound alone needs, in seconds, the longest first.
    pub bounds: Vec<(Bound, f64)>,
    /// Bytes that it reads from the disk and writes to it.
    pub disk_bytes: f64,
}

impl PhaseTime {
    /// How long it takes, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.bounds.first().map_or(0.0, |(_, seconds)| *seconds)
    }

    /// What bounds it.
    #[must_use]
    pub fn bound(&self) -> Option<Bound> {
        self.bounds.first().map(|(bound, _)| *bound)
    }
}

/// What a load is going to take.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it was calculated from.
    pub inputs: Inputs,
    /// The phases, in order.
    pub phases: Vec<PhaseTime>,
    /// The disk.
    pub disk: Disk,
}

impl Plan {
    /// Calculates it.
    #[must_use]
    pub fn of(costs: &Costs, inputs: &Inputs) -> Self {
        let wanted = Phase::ALL.into_iter().filter(|phase| match phase {
            Phase::Identities => inputs.choice.handles != Handles::Skipped,
            Phase::Verify => inputs.choice.verifies,
            _ => true,
        });
        let phases: Vec<Phase> = wanted.collect();
        let disk = Disk::of(costs, inputs, &phases);
        let model = Model {
            costs,
            inputs,
            disk: &disk,
        };
        let phases = phases.into_iter().map(|phase| model.phase(phase)).collect();
        Self {
            inputs: inputs.clone(),
            phases,
            disk,
        }
    }

    /// How long all phases take, one after the other, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.phases.iter().map(PhaseTime::seconds).sum()
    }

    /// How long it takes to verify handles after all phases, beside an AppView that serves, in
    /// seconds; nothing if they are verified in a phase or not at all.
    #[must_use]
    pub fn seconds_of_handles_later(&self) -> Option<f64> {
        let Inputs { work, sizes, .. } = &self.inputs;
        let seconds = seconds_of_handles(work.repos, sizes.look_ups);
        self.inputs.verifies_later().then_some(seconds)
    }

    /// How long those after loading take, in seconds.
    #[must_use]
    pub fn seconds_after_load(&self) -> f64 {
        let after = self.phases.iter().filter(|time| time.phase != Phase::Load);
        after.map(PhaseTime::seconds).sum()
    }

    /// Bytes that lie on the disk at once and for which it has no room; nothing, if there is room
    /// or nobody knows.
    #[must_use]
    pub fn lacks(&self) -> Option<f64> {
        let free = to_float(self.inputs.machine.free?);
        let lacks = self.disk.at_once() - free;
        (lacks > 0.0).then_some(lacks)
    }

    /// Whether the disk is so small that no error of the estimate explains it: not even four fifths
    /// would have room.
    #[must_use]
    pub fn clearly_lacks_disk(&self) -> bool {
        let free = self.inputs.machine.free.map(to_float);
        free.is_some_and(|free| self.disk.at_once() * 0.8 > free)
    }
}

struct Model<'m> {
    costs: &'m Costs,
    inputs: &'m Inputs,
    disk: &'m Disk,
}

/// CPU of a phase in seconds: skyfill's and PostgreSQL's.
#[derive(Clone, Copy)]
struct Cpu {
    client: f64,
    server: f64,
    /// The share of the cores' time that can be used.
    busy: f64,
}

impl Cpu {
    /// A share of it.
    fn times(self, share: f64) -> Self {
        Self {
            client: self.client * share,
            server: self.server * share,
            ..self
        }
    }

    /// Seconds of `cpu` on so many cores.
    fn on(self, cpu: f64, cores: usize) -> f64 {
        cpu / (to_float(cores.max(1) as u64) * self.busy)
    }
}

impl Model<'_> {
    fn phase(&self, phase: Phase) -> PhaseTime {
        let mut bounds = match phase {
            Phase::Load => self.load(),
            Phase::Indexes => self.indexes(),
            Phase::Vacuum => self.vacuum(),
            Phase::Identities => self.identities(),
            Phase::Finalize => {
                self.on_connections(phase, Bound::Connections, self.inputs.sizes.connections)
            }
            Phase::Verify => {
                self.on_connections(phase, Bound::Verifiers, self.inputs.sizes.verifiers)
            }
        };
        let disk_bytes = self.disk_bytes(phase);
        if let Some(rate) = self.inputs.machine.disk_rate {
            bounds.push((Bound::Disk, disk_bytes / to_float(rate.max(1))));
        }
        bounds.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        PhaseTime {
            phase,
            bounds,
            disk_bytes,
        }
    }

    fn cpu(&self, phase: Phase) -> Cpu {
        let records = to_float(self.inputs.work.records);
        let unfrozen = self.disk.unfrozen(&self.inputs.sizes);
        let units = |cost: &PhaseCost| cost.growth.units(records, unfrozen) / 1e6;
        match self.costs.phase(phase) {
            Some(cost) => Cpu {
                client: cost.client * units(cost),
                server: cost.server * units(cost),
                busy: cost.busy,
            },
            None => Cpu {
                client: 0.0,
                server: 0.0,
                busy: 1.0,
            },
        }
    }

    /// What all cores need for it.
    fn cores(&self, cpu: Cpu) -> (Bound, f64) {
        let machine = &self.inputs.machine;
        let busiest = match machine.is_shared {
            true => cpu.client + cpu.server,
            false => cpu.client.max(cpu.server),
        };
        (Bound::Cores, cpu.on(busiest, machine.cores))
    }

    fn load(&self) -> Vec<(Bound, f64)> {
        let (work, sizes) = (&self.inputs.work, &self.inputs.sizes);
        let cores = self.inputs.machine.cores;
        let cpu = self.cpu(Phase::Load);
        let mut bounds = vec![
            self.cores(cpu),
            (Bound::Threads, cpu.on(cpu.client, sizes.threads.min(cores))),
            (
                Bound::Connections,
                cpu.on(cpu.server, sizes.connections.min(cores)),
            ),
        ];
        if let Some(host) = &work.fullest {
            bounds.push((Bound::Hosts, host.seconds()));
            let at_once = to_float(sizes.slots.max(1) as u64);
            bounds.push((
                Bound::Requests,
                to_float(work.repos) * REQUEST_SECONDS / at_once,
            ));
        }
        bounds
    }

    fn indexes(&self) -> Vec<(Bound, f64)> {
        let sizes = &self.inputs.sizes;
        let cores = self.inputs.machine.cores;
        let whole = self.cpu(Phase::Indexes);
        let processes = sizes.build_processes.max(1);
        // Indexes of what is left out are not built.
        let kept = self.costs.indexes.iter().filter(|index| {
            let mut tables = self.disk.tables.iter();
            tables.any(|table| table.name == index.table)
        });
        let kept: Vec<f64> = kept.map(|index| index.bytes).collect();
        let all: f64 = self.costs.indexes.iter().map(|index| index.bytes).sum();
        let all = all.max(f64::MIN_POSITIVE);
        let largest = kept.iter().copied().fold(0.0, f64::max) / all;
        let cpu = whole.times(kept.iter().sum::<f64>() / all);
        let of_one = (processes / sizes.builds.max(1)).max(1).min(cores);
        vec![
            self.cores(cpu),
            (Bound::Builds, cpu.on(cpu.server, processes.min(cores))),
            (
                Bound::LargestIndex,
                whole.on(whole.server * largest, of_one),
            ),
        ]
    }

    fn vacuum(&self) -> Vec<(Bound, f64)> {
        let (cores, sizes) = (self.inputs.machine.cores, &self.inputs.sizes);
        let cpu = self.cpu(Phase::Vacuum);
        let tables = self.disk.tables.iter();
        let largest = tables.fold(0f64, |most, table| most.max(unfrozen(table.heap, sizes)));
        let largest = largest / self.disk.unfrozen(sizes).max(1.0);
        let builds = sizes.builds.max(1);
        vec![
            self.cores(cpu),
            (Bound::Connections, cpu.on(cpu.server, builds.min(cores))),
            (Bound::LargestTable, cpu.on(cpu.server * largest, 1)),
        ]
    }

    /// Documents that the export does not bring come one by one. Then handles are verified, or
    /// stored as claimed.
    fn identities(&self) -> Vec<(Bound, f64)> {
        let (work, sizes) = (&self.inputs.work, &self.inputs.sizes);
        let repos = to_float(work.repos);
        let mut bounds = Vec::new();
        if work.repos < sizes.export_from {
            let rate = sizes.directory_rate.max(f64::MIN_POSITIVE);
            bounds.push((Bound::Directory, repos / rate));
        }
        let is_stored = self.inputs.verifies_later();
        if is_stored {
            bounds.push((Bound::Accounts, repos * CLAIM_SECONDS));
        } else {
            bounds.push((
                Bound::LookUps,
                seconds_of_handles(work.repos, sizes.look_ups),
            ));
        }
        bounds
    }

    fn on_connections(&self, phase: Phase, bound: Bound, most: usize) -> Vec<(Bound, f64)> {
        let connections = most.min(self.inputs.machine.cores);
        let cpu = self.cpu(phase);
        // A thread of skyfill's and a process of the server's take turns on each connection.
        let both = cpu.client + cpu.server;
        vec![self.cores(cpu), (bound, cpu.on(both, connections))]
    }

    /// What a phase writes and reads, in bytes, if it reads what does not fit into memory.
    fn disk_bytes(&self, phase: Phase) -> f64 {
        let disk = self.disk;
        let is_cached = disk.at_the_end() < to_float(self.inputs.machine.memory) / 2.0;
        let read = |bytes: f64| if is_cached { 0.0 } else { bytes };
        let wal = disk.wal.iter().find(|(known, _)| *known == phase);
        let wal = wal.map_or(0.0, |(_, bytes)| *bytes);
        wal + match phase {
            Phase::Load => disk.heap(),
            Phase::Indexes => {
                let scanned = disk.tables.iter().map(|table| {
                    let indexes = self.costs.indexes_of(&table.name).count();
                    table.heap * to_float(indexes as u64)
                });
                // Sorted tuples are written and read once.
                disk.indexes() + read(scanned.sum()) + read(2.0 * disk.indexes())
            }
            Phase::Vacuum => {
                let unfrozen = disk.unfrozen(&self.inputs.sizes);
                unfrozen + read(unfrozen)
            }
            // What it changes is at most as much as its WAL.
            Phase::Finalize => wal,
            Phase::Verify => read(disk.at_the_end()),
            Phase::Identities => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::{Growth, IndexCost, TableCost};
    use crate::inputs::{Choice, Machine, Sizes, Work};

    fn costs() -> Costs {
        let phase = |phase, growth, client, server| PhaseCost {
            phase,
            growth,
            client,
            server,
            busy: 0.5,
            wal: 100.0,
            reads: 0.0,
            looks: 0.0,
        };
        let table = |name: &str, heap| TableCost {
            name: name.to_owned(),
            rows: 1.0,
            heap,
        };
        let index = |table: &str, name: &str, bytes| IndexCost {
            table: table.to_owned(),
            name: name.to_owned(),
            bytes,
        };
        Costs {
            about: Vec::new(),
            phases: vec![
                phase(Phase::Load, Growth::Linear, 5.0, 8.0),
                phase(Phase::Indexes, Growth::Sorting, 0.0, 1.0),
                phase(Phase::Vacuum, Growth::Freezing, 0.0, 2000.0),
                phase(Phase::Finalize, Growth::Linear, 0.0, 4.0),
                phase(Phase::Verify, Growth::Linear, 3.0, 7.0),
            ],
            tables: vec![table("record", 300.0), table("notification", 100.0)],
            indexes: vec![
                index("record", "a", 60.0),
                index("record", "b", 20.0),
                index("notification", "c", 20.0),
            ],
        }
    }

    fn inputs() -> Inputs {
        Inputs {
            work: Work::given(Some(1_000_000), Some(1 << 20)),
            machine: Machine {
                cores: 8,
                memory: 1 << 20,
                free: None,
                disk_rate: None,
                is_shared: true,
            },
            sizes: Sizes {
                threads: 8,
                connections: 4,
                slots: 100,
                memory: 1 << 30,
                builds: 4,
                build_memory: 1 << 20,
                build_processes: 8,
                shared_buffers: 1 << 20,
                max_wal: 1 << 20,
                // The smaller of the tables has 100 MiB and some pages.
                freeze_step: 100 << 20,
                freeze_part: 400,
                verifiers: 4,
                look_ups: 10,
                directory_rate: 20.0,
                export_from: 300_000,
                claims_from: 300_000,
            },
            choice: Choice {
                handles: Handles::Verified,
                verifies: true,
                notifies: true,
            },
        }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    fn time(plan: &Plan, phase: Phase) -> (Bound, f64) {
        let mut phases = plan.phases.iter();
        let found = phases.find(|time| time.phase == phase).expect("the phase");
        found.bounds[0]
    }

    #[test]
    fn each_phase_takes_as_long_as_what_bounds_it() {
        let plan = Plan::of(&costs(), &inputs());
        let n = f64::from(1 << 20);
        for (phase, bound, seconds) in [
            // A million requests, a hundred at once, beside 11,111 on the fullest host.
            (Phase::Load, Bound::Requests, 10_000.0),
            // The largest of the indexes has six tenths of the bytes, and two processes.
            (
                Phase::Indexes,
                Bound::LargestIndex,
                n * 20.0 / 1e6 * 0.6 / 2.0 / 0.5,
            ),
            // All but 100 MiB of a table are frozen before.
            (Phase::Vacuum, Bound::LargestTable, 100.0 * 2e-3 / 0.5),
            (Phase::Identities, Bound::LookUps, 15_000.0),
            (
                Phase::Finalize,
                Bound::Connections,
                n * 4.0 / 1e6 / 4.0 / 0.5,
            ),
            (Phase::Verify, Bound::Verifiers, n * 10.0 / 1e6 / 4.0 / 0.5),
        ] {
            let found = time(&plan, phase);
            // The heaps have a part that does not grow, of some pages.
            let is_near = (found.1 - seconds).abs() < seconds * 1e-3;
            assert!(
                found.0 == bound && is_near,
                "{phase:?}: {found:?}, {seconds}"
            );
        }
        let sum: f64 = plan.phases.iter().map(PhaseTime::seconds).sum();
        assert!(near(plan.seconds(), sum));
        assert!(near(
            plan.seconds_after_load(),
            sum - time(&plan, Phase::Load).1
        ));
    }

    #[test]
    fn a_host_an_archive_and_a_slow_disk_bound_a_load() {
        let mut inputs = inputs();
        inputs.work.fullest.as_mut().expect("a host").repos = 500_000;
        let load = time(&Plan::of(&costs(), &inputs), Phase::Load);
        // 500,000 repos and 500 pages of the list.
        assert_eq!(load.0, Bound::Hosts);
        assert!(near(load.1, 50_050.0), "{load:?}");
        // An archive has no hosts.
        inputs.work.fullest = None;
        let load = time(&Plan::of(&costs(), &inputs), Phase::Load);
        let n = f64::from(1 << 20);
        assert_eq!(load.0, Bound::Connections);
        assert!(near(load.1, n * 8.0 / 1e6 / 4.0 / 0.5), "{load:?}");
        // PostgreSQL on another machine: skyfill's threads do not take its cores.
        inputs.sizes.connections = 8;
        assert_eq!(
            time(&Plan::of(&costs(), &inputs), Phase::Load).0,
            Bound::Cores
        );
        inputs.machine.is_shared = false;
        let apart = time(&Plan::of(&costs(), &inputs), Phase::Load).1;
        assert!(near(apart, n * 8.0 / 1e6 / 8.0 / 0.5), "{apart}");
        inputs.machine.disk_rate = Some(1_000_000);
        let plan = Plan::of(&costs(), &inputs);
        let (bound, seconds) = time(&plan, Phase::Load);
        assert_eq!(bound, Bound::Disk);
        assert!(
            near(seconds, (plan.disk.heap() + 100.0 * n) / 1e6),
            "{seconds}"
        );
        // What fits into memory is not read again.
        let verify = |plan: &Plan| plan.phases.last().expect("verify").disk_bytes;
        let read = verify(&plan);
        inputs.machine.memory = 1 << 40;
        let cached = Plan::of(&costs(), &inputs);
        assert!(near(read - verify(&cached), plan.disk.at_the_end()));
    }

    #[test]
    fn few_accounts_are_asked_for_one_by_one_and_what_is_left_out_takes_nothing() {
        let mut inputs = inputs();
        inputs.work.repos = 200_000;
        let found = time(&Plan::of(&costs(), &inputs), Phase::Identities);
        assert_eq!(found.0, Bound::Directory);
        assert!(near(found.1, 10_000.0), "{found:?}");
        inputs.work.repos = 1_000_000;
        let verified = Plan::of(&costs(), &inputs);
        assert!(verified.seconds_of_handles_later().is_none());
        for handles in [Handles::Claimed, Handles::Auto] {
            inputs.choice.handles = handles;
            let plan = Plan::of(&costs(), &inputs);
            let found = time(&plan, Phase::Identities);
            assert_eq!(found.0, Bound::Accounts);
            assert!(near(found.1, 60.0), "{found:?}");
            // They take as long as before, but nobody waits for them.
            let later = plan
                .seconds_of_handles_later()
                .expect("they are verified later");
            assert!(near(later, time(&verified, Phase::Identities).1), "{later}");
            assert!(near(verified.seconds() - plan.seconds(), later - 60.0));
        }
        inputs.work.repos = 299_999;
        let few = Plan::of(&costs(), &inputs);
        assert!(few.seconds_of_handles_later().is_none());
        inputs.work.repos = 1_000_000;
        inputs.choice.handles = Handles::Claimed;
        let plan = Plan::of(&costs(), &inputs);
        let all = plan.disk.at_the_end();
        inputs.choice = Choice {
            handles: Handles::Skipped,
            verifies: false,
            notifies: false,
        };
        let plan = Plan::of(&costs(), &inputs);
        let phases: Vec<Phase> = plan.phases.iter().map(|time| time.phase).collect();
        let left = [Phase::Load, Phase::Indexes, Phase::Vacuum, Phase::Finalize];
        assert_eq!(phases, left);
        assert_eq!(plan.disk.tables.len(), 1);
        assert!(plan.disk.at_the_end() < all * 0.8);
    }

    #[test]
    fn a_disk_is_clearly_too_small_below_four_fifths() {
        let mut inputs = inputs();
        let plan = Plan::of(&costs(), &inputs);
        assert!(plan.lacks().is_none() && !plan.clearly_lacks_disk());
        let needs = plan.disk.at_once();
        // 540 bytes per record, and WAL up to `max_wal_size`.
        let n = f64::from(1 << 20);
        assert!(needs > 500.0 * n + f64::from(1 << 20), "{needs}");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let mut with = |share: f64| {
            inputs.machine.free = Some((needs * share) as u64);
            let plan = Plan::of(&costs(), &inputs);
            (plan.lacks().is_some(), plan.clearly_lacks_disk())
        };
        assert_eq!(with(1.1), (false, false));
        assert_eq!(with(0.9), (true, false));
        assert_eq!(with(0.7), (true, true));
    }

    #[test]
    fn nothing_and_everything_can_be_planned() {
        let mut inputs = inputs();
        inputs.work = Work::given(Some(0), Some(0));
        let plan = Plan::of(&costs(), &inputs);
        assert!(plan.seconds().is_finite());
        inputs.work = Work::given(Some(u64::MAX), Some(u64::MAX));
        inputs.machine.cores = 0;
        inputs.sizes.builds = 0;
        assert!(Plan::of(&costs(), &inputs).seconds().is_finite());
        assert!(Plan::of(&Costs::default(), &inputs).seconds().is_finite());
    }
}
