//! The whole way on one clock: what the real scheduler takes on paper ([`crate::paper`]), then the
//! phases after loading, by the costs that `bench costs` measured. With the defaults of the
//! product, on a machine of the guide (docs/how-to/full-network.md).

use engine::estimates::{self, Server};
use engine::identities::Documents;
use engine::run::{Scale, Wanted};
use plan::{Bound, Choice, Costs, Handles, Inputs, Machine, Phase, Plan, Work};
use std::fmt::Write;
use std::time::Duration;

/// The machine of the guide.
const CORES: usize = 64;
const MEMORY: u64 = 256 << 30;
/// Requests to the PLC directory per second, by default.
const DIRECTORY_RATE: f64 = 20.0;
/// What it is to take at most, in hours.
const WANTED: f64 = 24.0;

/// Sizes of a load on the machine of the guide, by default.
pub(crate) fn scale() -> Scale {
    let machine = process::Machine {
        cores: CORES,
        memory: MEMORY,
    };
    Scale::assumed(&Wanted::default(), machine)
}

/// The report about `repos`, the last of which was fetched after `fetched`.
pub(crate) fn report(repos: u64, fetched: Duration, costs: &Costs) -> String {
    let inputs = Inputs {
        work: Work::given(Some(repos), None),
        machine: Machine {
            cores: CORES,
            memory: MEMORY,
            free: None,
            disk_rate: None,
            is_shared: true,
        },
        sizes: estimates::sizes(
            CORES,
            &scale(),
            Server::private(MEMORY),
            Documents::Auto,
            DIRECTORY_RATE,
        ),
        choice: Choice {
            handles: Handles::Auto,
            verifies: true,
            notifies: true,
        },
    };
    let plan = Plan::of(costs, &inputs);
    let mut phases: Vec<(Phase, f64, &str)> = Vec::new();
    for time in &plan.phases {
        // What the network takes was simulated.
        let known = time
            .bounds
            .iter()
            .find(|(bound, _)| !matches!(bound, Bound::Hosts | Bound::Requests));
        let (bound, seconds) = known.map_or(("", 0.0), |(bound, seconds)| (bound.word(), *seconds));
        let network = fetched.as_secs_f64();
        phases.push(match time.phase {
            Phase::Load if network > seconds => (time.phase, network / 3600.0, "hosts"),
            phase => (phase, seconds / 3600.0, bound),
        });
    }
    let mut out = format!(
        "\n### The whole way on one clock\n\n{CORES} cores, {} GiB, defaults of the product; costs of {} at commit {} ({}), records {}. The time of the disk is not in it.\n\n| phase | hours | bound by |\n|---|---|---|\n",
        MEMORY >> 30,
        costs.said("date"),
        costs.said("commit"),
        costs.said("machine"),
        costs.said("records"),
    );
    for (phase, hours, bound) in &phases {
        let _ = writeln!(out, "| {} | {hours:.2} | {bound} |", phase.word());
    }
    out.push_str(&verdict(&phases));
    out.push_str(&handles(plan.seconds_of_handles_later()));
    out
}

/// What is left to do when it is served and proved.
fn handles(seconds: Option<f64>) -> String {
    seconds.map_or_else(String::new, |seconds| {
        format!(
            "handles verified: {:.1} h after that, beside the serving AppView; until then they are those that documents claim\n",
            seconds / 3600.0
        )
    })
}

/// The total; if it is too much, the phases without which it would not be.
fn verdict(phases: &[(Phase, f64, &str)]) -> String {
    let total: f64 = phases.iter().map(|(_, hours, _)| hours).sum();
    let mut out = format!("\nserved and proved: {total:.1} h\n");
    if total <= WANTED {
        return out;
    }
    let mut longest: Vec<_> = phases
        .iter()
        .filter(|(phase, ..)| *phase != Phase::Load)
        .collect();
    longest.sort_by(|(_, a, _), (_, b, _)| b.total_cmp(a));
    let mut left = total;
    let mut causes = Vec::new();
    for (phase, hours, bound) in longest {
        if left <= WANTED {
            break;
        }
        left -= hours;
        causes.push(format!("{} ({hours:.1} h, {bound})", phase.word()));
    }
    let _ = writeln!(
        out,
        "That is {:.1} h more than {WANTED:.0}: {}.",
        total - WANTED,
        causes.join(", ")
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_that_take_too_long_are_named() {
        let day = [(Phase::Load, 14.0, "hosts"), (Phase::Indexes, 5.0, "cores")];
        assert_eq!(verdict(&day), "\nserved and proved: 19.0 h\n");
        let days = [
            (Phase::Load, 14.0, "hosts"),
            (Phase::Indexes, 5.0, "cores"),
            (Phase::Identities, 58.0, "lookUps"),
            (Phase::Verify, 9.0, "cores"),
        ];
        let text = verdict(&days);
        assert!(text.contains("served and proved: 86.0 h"), "{text}");
        let causes = "62.0 h more than 24: identities (58.0 h, lookUps), verify (9.0 h, cores).";
        assert!(text.contains(causes), "{text}");
        assert_eq!(handles(None), "");
        let later = handles(Some(58.6 * 3600.0));
        assert!(
            later.starts_with("handles verified: 58.6 h after that, "),
            "{later}"
        );
    }
}
