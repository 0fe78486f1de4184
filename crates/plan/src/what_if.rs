//! What would change the answer: the same plan with one thing changed.

use crate::costs::Costs;
use crate::inputs::{Handles, Inputs};
use crate::model::{Bound, Plan};

/// What changes less than this share of the time or of the disk is not named.
const WORTH_NAMING: f64 = 0.02;
/// The most connections that `--max-db-connections` takes.
const MOST_CONNECTIONS: usize = 64;

/// A change, and what it saves.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What to change, for people.
    pub what: String,
    /// Seconds that it saves.
    pub seconds: f64,
    /// Bytes of disk that it saves.
    pub bytes: f64,
}

/// The changes that save something, those that save the most time first.
#[must_use]
pub fn changes(costs: &Costs, inputs: &Inputs) -> Vec<Change> {
    let plan = Plan::of(costs, inputs);
    let mut all: Vec<Change> = candidates(inputs, &plan)
        .into_iter()
        .map(|(what, changed)| {
            let other = Plan::of(costs, &changed);
            Change {
                what,
                seconds: plan.seconds() - other.seconds(),
                bytes: plan.disk.at_once() - other.disk.at_once(),
            }
        })
        .filter(|change| {
            change.seconds > plan.seconds() * WORTH_NAMING
                || change.bytes > plan.disk.at_once() * WORTH_NAMING
        })
        .collect();
    all.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    all
}

fn candidates(inputs: &Inputs, plan: &Plan) -> Vec<(String, Inputs)> {
    let mut all = Vec::new();
    let mut add = |what: String, change: &dyn Fn(&mut Inputs)| {
        let mut changed = inputs.clone();
        change(&mut changed);
        if changed != *inputs {
            all.push((what, changed));
        }
    };
    let later = "--handles auto, which verifies handles beside the serving AppView";
    add(later.to_owned(), &|inputs| {
        let is_many = inputs.work.repos >= inputs.sizes.claims_from;
        if inputs.choice.handles == Handles::Verified && is_many {
            inputs.choice.handles = Handles::Auto;
        }
    });
    add("--notifications none".to_owned(), &|inputs| {
        inputs.choice.notifies = false;
    });
    let cores = inputs.machine.cores;
    add("twice the cores".to_owned(), &double_cores);
    let connections = cores.min(MOST_CONNECTIONS);
    let is_few = inputs.sizes.connections < connections;
    if is_few {
        add(format!("--max-db-connections {connections}"), &|inputs| {
            let more = connections - inputs.sizes.builds.min(connections);
            inputs.sizes.connections = connections;
            inputs.sizes.builds = inputs.sizes.builds.max(connections);
            inputs.sizes.build_processes += more;
        });
    }
    if inputs.sizes.build_processes < cores {
        add(
            format!("max_parallel_workers and max_worker_processes = {cores} in PostgreSQL"),
            &|inputs| inputs.sizes.build_processes = cores,
        );
    }
    let is_on_disk = plan
        .phases
        .iter()
        .any(|time| time.bound() == Some(Bound::Disk));
    if is_on_disk {
        add("a disk that is twice as fast".to_owned(), &|inputs| {
            let rate = &mut inputs.machine.disk_rate;
            *rate = rate.map(|rate| rate.saturating_mul(2));
        });
    }
    all
}

fn double_cores(inputs: &mut Inputs) {
    let Inputs { machine, sizes, .. } = inputs;
    // There are more connections that compare if there are as few as cores.
    if sizes.verifiers == machine.cores {
        sizes.verifiers *= 2;
    }
    machine.cores *= 2;
    sizes.threads *= 2;
    sizes.connections *= 2;
    sizes.builds *= 2;
    sizes.build_processes *= 2;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{Choice, Machine, Sizes};

    #[test]
    fn what_saves_something_is_named_and_nothing_else() {
        let example = Inputs::example();
        let mut inputs = Inputs {
            choice: Choice {
                handles: Handles::Verified,
                ..example.choice
            },
            machine: Machine {
                cores: 8,
                free: None,
                disk_rate: Some(1 << 20),
                ..example.machine
            },
            sizes: Sizes {
                threads: 8,
                connections: 4,
                builds: 4,
                build_processes: 8,
                ..example.sizes
            },
            ..example
        };
        let costs = Costs::committed();
        let named = |inputs: &Inputs| -> Vec<String> {
            let found = changes(&costs, inputs);
            assert!(
                found.iter().all(|change| change.seconds > -1e-6),
                "{found:?}"
            );
            found.into_iter().map(|change| change.what).collect()
        };
        // At a megabyte per second, only the disk counts.
        let found = named(&inputs);
        assert_eq!(found[0], "a disk that is twice as fast", "{found:?}");
        assert!(found.iter().any(|what| what == "--notifications none"));
        assert!(
            !found.iter().any(|what| what == "twice the cores"),
            "{found:?}"
        );
        inputs.machine.disk_rate = None;
        let found = named(&inputs);
        for what in ["--handles auto", "twice the cores"] {
            let is_named = found.iter().any(|known| known.starts_with(what));
            assert!(is_named, "{what}: {found:?}");
        }
        inputs.choice.handles = Handles::Auto;
        inputs.choice.notifies = false;
        let found = named(&inputs);
        assert!(!found.iter().any(|what| what.starts_with("--handles")));
        assert!(!found.iter().any(|what| what.starts_with("--notifications")));
    }
}
