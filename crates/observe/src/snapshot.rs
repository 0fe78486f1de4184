//! What the registry says at one moment, for views, programs and metrics.

use crate::meters::{Counter, Unit};
use serde::Serialize;

/// A phase of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseName {
    /// For programs, in snake case.
    pub name: &'static str,
    /// For people, as what is done: `fetching`.
    pub label: &'static str,
}

/// Where a phase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseState {
    /// Not begun.
    Pending,
    /// Under way.
    Open,
    /// Ended, or not needed.
    Done,
}

/// A phase, as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// For programs.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// Where it stands.
    pub state: PhaseState,
    /// How long it has been open, in all.
    pub seconds: f64,
}

/// A counter, as it stands.
#[derive(Clone, Debug, Serialize)]
pub struct Value {
    /// For programs.
    pub name: &'static str,
    /// For people.
    pub label: &'static str,
    /// How much.
    pub value: u64,
    /// Whether it counts bytes.
    #[serde(skip)]
    pub unit: Unit,
    /// Whether its rate is of interest.
    #[serde(skip)]
    pub has_rate: bool,
}

/// A part of a piece of work, such as one index.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// What it is.
    pub label: String,
    /// What is done with it now.
    pub doing: String,
    /// How far it is, from 0 to 1, if that is known.
    pub share: Option<f64>,
}

/// A host that takes long.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SlowHost {
    /// Its name.
    pub name: String,
    /// Seconds until all of it is there.
    pub seconds_left: f64,
    /// Requests that it may be sent per second.
    pub rate: f64,
}

/// Something that is waited for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Awaited {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// A piece of work that is under way, as it stands. The first counter is what is done of `total`.
#[derive(Clone, Debug, Serialize)]
pub struct Stage {
    /// For programs.
    pub name: &'static str,
    /// How long it has been under way.
    pub seconds: f64,
    /// What the first counter will be at the end, if that is known.
    pub total: Option<u64>,
    /// Seconds that are left, if that is known.
    pub seconds_left: Option<f64>,
    /// What alone takes so long, if it is one thing.
    pub slowest: Option<String>,
    /// What is counted.
    pub counters: Vec<Value>,
    /// What is done now.
    pub doing: Option<String>,
    /// Its parts that are under way.
    pub parts: Vec<Part>,
    /// How many things are waited for.
    pub waiting: usize,
    /// The first few of them; what makes trouble comes first.
    pub awaited: Vec<Awaited>,
    /// Hosts that take the longest.
    pub hosts: Vec<SlowHost>,
    /// Failures by reason, the most frequent first.
    pub failures: Vec<(String, u64)>,
}

/// All of it, as it stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Snapshot {
    /// The command.
    pub command: String,
    /// Since when it works.
    pub seconds: f64,
    /// Its phases, in order.
    pub phases: Vec<Phase>,
    /// What is under way.
    pub stages: Vec<Stage>,
}

impl Snapshot {
    /// The open phase, and its number, counted from 1.
    #[must_use]
    pub fn open_phase(&self) -> Option<(usize, &Phase)> {
        let mut numbered = (1..).zip(&self.phases);
        numbered.find(|(_, phase)| phase.state == PhaseState::Open)
    }
}

impl Value {
    pub(crate) fn of(counter: &Counter) -> Self {
        Self {
            name: counter.name,
            label: counter.label,
            value: counter.get(),
            unit: counter.unit,
            has_rate: counter.has_rate,
        }
    }
}
