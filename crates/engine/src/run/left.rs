//! What is left of a fresh load after loading: the phases of its plan, corrected by how long those
//! took that are done.

use crate::estimates::{self, Server};
use crate::run::estimate::handles;
use crate::run::session::Session;
use ledger::coverage::Coverage;
use ledger::runs::{Mode, Phase, Run};
use observe::registry;
use observe::units::rough;
use plan::{Basis, Bound, Choice, Costs, Plan, Work};
use process::{Failure, Machine};
use std::time::Duration;

/// Less than this is not worth a line, in seconds.
const WORTH_A_LINE: f64 = 600.0;
/// How far what was measured may correct the plan.
const CORRECTION: std::ops::RangeInclusive<f64> = 0.1..=10.0;
/// Phases that are shorter say nothing, in seconds.
const LONG_ENOUGH: f64 = 10.0;

/// The plan of what is loaded.
pub(crate) struct Left(Option<Plan>);

impl Left {
    /// Calculates it from what is stored. A merge has none: the costs are those of a fresh load.
    pub(crate) fn of(session: &Session<'_>, run: &Run) -> Result<Self, Failure> {
        if run.mode == Mode::Merge {
            return Ok(Self(None));
        }
        let (database, options) = (session.database, session.options);
        let refused = |error: postgres::Error| database.failure(error);
        let mut client = database.connect()?;
        let (coverage, stored) = Coverage::kept(&mut *client, &database.schema).map_err(refused)?;
        let server = Server::of(&mut client).map_err(refused)?;
        let work = Work {
            repos: coverage.count(|_| true),
            records: stored.records,
            hosts: 0,
            fullest: None,
            basis: Basis::LedgerAndLoaded,
        };
        let cores = Machine::this().cores;
        let rate = options.directory.plc_pace.most();
        let sizes = estimates::sizes(cores, &options.scale, server, options.documents, rate);
        let choice = Choice {
            handles: handles(options.handles),
            verifies: options.verifies,
            notifies: run.notifications != load::Notifications::None.text(),
        };
        let inputs = estimates::inputs(database, &mut client, work, sizes, choice)?;
        Ok(Self(Some(Plan::of(&Costs::committed(), &inputs))))
    }

    /// A phase begins: logs what is left, if that is much.
    pub(crate) fn log(&self, phase: Phase) {
        let Some(plan) = &self.0 else {
            return;
        };
        let phases = registry().snapshot().phases;
        let taken = |name: &str| {
            let mut all = phases.iter();
            all.find(|known| known.name == name)
                .map_or(0.0, |known| known.seconds)
        };
        let (ratio, left) = corrected(plan, phase.word(), taken);
        let total: f64 = left.iter().map(|(_, seconds)| seconds).sum();
        if total < WORTH_A_LINE {
            return;
        }
        let span = |seconds: f64| rough(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let parts: Vec<String> = left
            .iter()
            .map(|(label, seconds)| format!("{label} {}", span(*seconds)))
            .collect();
        observe::log!(
            "left, as estimated: {} ({}); {ratio:.1} times the plan, by the phases so far",
            span(total),
            parts.join(", ")
        );
    }
}

/// How many times the plan the phases before `phase` took, and what those from it on take then.
fn corrected(
    plan: &Plan,
    phase: &str,
    taken: impl Fn(&str) -> f64,
) -> (f64, Vec<(&'static str, f64)>) {
    let at = plan
        .phases
        .iter()
        .position(|time| time.phase.word() == phase);
    let (done, left) = plan.phases.split_at(at.unwrap_or(plan.phases.len()));
    // What hosts and directories take says nothing about the machine.
    let of_machine = |bound| !matches!(bound, Some(Bound::LookUps | Bound::Directory) | None);
    let (mut expected, mut took) = (0.0, 0.0);
    // Nor does a load that waited for hosts.
    let after_load = done.iter().filter(|time| time.phase != plan::Phase::Load);
    for time in after_load.filter(|time| of_machine(time.bound())) {
        let seconds = taken(time.phase.word());
        if seconds >= LONG_ENOUGH {
            expected += time.seconds();
            took += seconds;
        }
    }
    let ratio = match expected > 0.0 {
        true => (took / expected).clamp(*CORRECTION.start(), *CORRECTION.end()),
        false => 1.0,
    };
    let left = left.iter().map(|time| {
        let factor = if of_machine(time.bound()) { ratio } else { 1.0 };
        (time.phase.label(), time.seconds() * factor)
    });
    (ratio, left.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use plan::{Handles, Inputs, Sizes};

    #[test]
    fn later_phases_take_as_many_times_the_plan_as_those_before() {
        let inputs = Inputs {
            work: Work::given(None, Some(2_000_000_000)),
            machine: plan::Machine {
                cores: 16,
                memory: 64 << 30,
                free: None,
                disk_rate: None,
                is_shared: true,
            },
            sizes: Sizes {
                threads: 16,
                connections: 8,
                slots: 1000,
                memory: 1 << 30,
                builds: 8,
                build_memory: 1 << 30,
                build_processes: 16,
                shared_buffers: 1 << 30,
                max_wal: 1 << 30,
                freeze_step: 64 << 20,
                freeze_part: 400,
                verifiers: 8,
                look_ups: 32,
                directory_rate: 20.0,
                export_from: 300_000,
                claims_from: 300_000,
            },
            choice: Choice {
                handles: Handles::Verified,
                verifies: true,
                notifies: true,
            },
        };
        let plan = Plan::of(&Costs::committed(), &inputs);
        let of = |name: &str| {
            let mut phases = plan.phases.iter();
            let found = phases.find(|time| time.phase.word() == name);
            found.map_or(0.0, plan::PhaseTime::seconds)
        };
        // Nothing was measured yet: loading waits for hosts.
        let (ratio, left) = corrected(&plan, "indexes", |_| 1e6);
        assert!((ratio - 1.0).abs() < 1e-9 && left.len() == 5, "{left:?}");
        // Indexes took twice as long; handles wait for others, whatever the machine.
        let taken = |name: &str| match name {
            "indexes" => 2.0 * of("indexes"),
            "vacuum" => 2.0 * of("vacuum"),
            _ => 0.0,
        };
        let (ratio, left) = corrected(&plan, "identities", taken);
        assert!((ratio - 2.0).abs() < 1e-9, "{ratio}");
        assert!((left[0].1 - of("identities")).abs() < 1e-6, "{left:?}");
        assert!((left[1].1 - 2.0 * of("finalize")).abs() < 1e-6, "{left:?}");
        // Nothing is beyond bounds.
        let (ratio, left) = corrected(&plan, "verify", |_| 1e15);
        assert!((ratio - 10.0).abs() < 1e-9 && left.len() == 1, "{left:?}");
        assert!(corrected(&plan, "done", |_| 0.0).1.is_empty());
    }
}
