//! What the process publishes of its work: phases, the pieces of work that are under way with their
//! counters, and the lanes of the pipeline. Whoever works writes it; views, programs and metrics
//! read it as a [`Snapshot`].
//!
//! There is one registry per process ([`registry`]), as there is one stderr.

pub use crate::snapshot::{
    Awaited, Part, Phase, PhaseName, PhaseState, SlowHost, Snapshot, Stage, Value,
};

use crate::limits::Ends;
use crate::meters::{Lane, LaneSpent};
use crate::work::Work;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// The registry of a process.
#[derive(Default)]
pub struct Registry {
    state: Mutex<State>,
}

struct State {
    command: String,
    begun: Instant,
    phases: Vec<Plan>,
    work: Vec<Arc<Work>>,
    lanes: Vec<Lane>,
    ends: Ends,
    /// The run that is worked on.
    run: Option<i64>,
    /// What counters of work that has ended came to, by the names of both.
    ended: BTreeMap<(&'static str, &'static str), u64>,
    /// Phases that were entered, with their numbers, until somebody asks.
    entered: Vec<(usize, PhaseName)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            command: String::new(),
            begun: Instant::now(),
            phases: Vec::new(),
            work: Vec::new(),
            lanes: Vec::new(),
            ends: Ends::default(),
            run: None,
            ended: BTreeMap::new(),
            entered: Vec::new(),
        }
    }
}

struct Plan {
    name: PhaseName,
    /// Since when it is open.
    since: Option<Instant>,
    spent: Duration,
    is_done: bool,
}

impl Plan {
    fn close(&mut self) {
        if let Some(since) = self.since.take() {
            self.spent += since.elapsed();
        }
    }
}

static REGISTRY: OnceLock<Registry> = OnceLock::new();

/// The registry of this process.
pub fn registry() -> &'static Registry {
    REGISTRY.get_or_init(Registry::default)
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the command.
    pub fn begin(&self, command: &str) {
        let mut state = self.lock();
        command.clone_into(&mut state.command);
        state.begun = Instant::now();
    }

    /// The phases to come, in order, instead of those before.
    pub fn plan(&self, phases: &[PhaseName]) {
        let plan = |name: &PhaseName| Plan {
            name: *name,
            since: None,
            spent: Duration::ZERO,
            is_done: false,
        };
        self.lock().phases = phases.iter().map(plan).collect();
    }

    /// A phase begins; those before it are done, those after it are still to come. One that is not
    /// planned is not shown.
    pub fn enter(&self, name: &str) {
        let mut state = self.lock();
        let Some(at) = state.phases.iter().position(|plan| plan.name.name == name) else {
            return;
        };
        if state.phases[at].since.is_some() {
            return;
        }
        let entered = state.phases[at].name;
        state.entered.push((at + 1, entered));
        for (number, plan) in state.phases.iter_mut().enumerate() {
            plan.close();
            plan.is_done = number < at;
            if number == at {
                plan.since = Some(Instant::now());
            }
        }
    }

    /// No phase is open any more: all of them are done.
    pub fn close(&self) {
        for plan in &mut self.lock().phases {
            plan.close();
            plan.is_done = true;
        }
    }

    /// The phases that were entered since the last call, with their numbers, counted from 1.
    pub(crate) fn take_entered(&self) -> Vec<(usize, PhaseName)> {
        std::mem::take(&mut self.lock().entered)
    }

    /// The name of the open phase.
    #[must_use]
    pub fn phase(&self) -> Option<&'static str> {
        let state = self.lock();
        let open = state.phases.iter().find(|plan| plan.since.is_some())?;
        Some(open.name.name)
    }

    /// The lanes of the pipeline from now on, in order, and where its work comes from: what limits
    /// when all of them wait for it.
    pub fn pipeline(&self, source: &str, lanes: Vec<Lane>) {
        let mut state = self.lock();
        state.lanes = lanes;
        state.ends = Ends {
            source: source.to_owned(),
            ..Ends::default()
        };
    }

    /// More about where the pipeline's work comes from.
    pub fn source_detail(&self, detail: String) {
        self.lock().ends.source_detail = detail;
    }

    /// How many sessions of the server were seen at work, and how many of them waited for its disk.
    /// What was seen long ago fades.
    pub fn saw_sessions(&self, sessions: u64, on_disk: u64) {
        let ends = &mut self.lock().ends;
        if ends.sessions > 20 {
            ends.sessions /= 2;
            ends.on_disk /= 2;
        }
        ends.sessions += sessions;
        ends.on_disk += on_disk;
    }

    pub(crate) fn add(&self, work: &Arc<Work>) {
        self.lock().work.push(Arc::clone(work));
    }

    /// Whether nothing is left.
    pub(crate) fn remove(&self, work: &Arc<Work>) -> bool {
        let mut state = self.lock();
        let before = state.work.len();
        state.work.retain(|other| !Arc::ptr_eq(other, work));
        if state.work.len() < before {
            for counter in work.counters() {
                let name = (work.name(), counter.name);
                *state.ended.entry(name).or_default() += counter.get();
            }
        }
        state.work.is_empty() && state.phases.iter().all(|plan| plan.since.is_none())
    }

    /// Says which run of the ledger is worked on.
    pub fn works_on(&self, run: i64) {
        self.lock().run = Some(run);
    }

    /// The run of the ledger that is worked on, if one has begun.
    #[must_use]
    pub fn run(&self) -> Option<i64> {
        self.lock().run
    }

    /// What all counters have come to since the process began, by the name of the work and their
    /// own, those of work that has ended included.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let state = self.lock();
        let mut totals = state.ended.clone();
        for work in &state.work {
            for counter in work.counters() {
                *totals.entry((work.name(), counter.name)).or_default() += counter.get();
            }
        }
        totals
    }

    /// The pieces of work that are under way.
    pub(crate) fn work(&self) -> Vec<Arc<Work>> {
        self.lock().work.clone()
    }

    /// How the lanes spent their time.
    pub(crate) fn lanes(&self) -> (Vec<LaneSpent>, Ends) {
        let state = self.lock();
        (
            state.lanes.iter().map(Lane::spent).collect(),
            state.ends.clone(),
        )
    }

    /// All of it, as it stands.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let state = self.lock();
        let phase = |plan: &Plan| Phase {
            name: plan.name.name,
            label: plan.name.label,
            state: match (plan.since, plan.is_done) {
                (Some(_), _) => PhaseState::Open,
                (None, true) => PhaseState::Done,
                (None, false) => PhaseState::Pending,
            },
            seconds: (plan.spent + plan.since.map_or(Duration::ZERO, |since| since.elapsed()))
                .as_secs_f64(),
        };
        Snapshot {
            command: state.command.clone(),
            seconds: state.begun.elapsed().as_secs_f64(),
            phases: state.phases.iter().map(phase).collect(),
            stages: state.work.iter().map(|work| work.stage()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [PhaseName; 3] = [
        PhaseName {
            name: "fetch",
            label: "fetching",
        },
        PhaseName {
            name: "indexes",
            label: "indexes",
        },
        PhaseName {
            name: "verify",
            label: "verify",
        },
    ];

    #[test]
    fn a_phase_is_open_and_may_be_entered_again() {
        let registry = Registry::default();
        let states = || {
            let phases = registry.snapshot().phases;
            phases.iter().map(|phase| phase.state).collect::<Vec<_>>()
        };
        registry.plan(&PHASES);
        assert_eq!(states(), [PhaseState::Pending; 3]);
        registry.enter("verify");
        assert_eq!(
            states(),
            [PhaseState::Done, PhaseState::Done, PhaseState::Open]
        );
        // A round more.
        registry.enter("fetch");
        assert_eq!(
            states(),
            [PhaseState::Open, PhaseState::Pending, PhaseState::Pending]
        );
        registry.enter("unplanned");
        assert_eq!(registry.phase(), Some("fetch"));
        assert_eq!(registry.snapshot().open_phase().unwrap().0, 1);
        registry.enter("fetch");
        assert_eq!(registry.take_entered(), [(3, PHASES[2]), (1, PHASES[0])]);
        registry.close();
        assert_eq!(states(), [PhaseState::Done; 3]);
    }
}
