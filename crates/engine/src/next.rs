//! The next step after a command, so that nobody has to look it up.

use ledger::coverage::Coverage;
use ledger::settings::Setting;
use ledger::states::State;
use verify::verdict::{Judgment, Verdict};

/// A command to run next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The command, without `skyfill`.
    pub command: &'static str,
    /// What it does.
    pub why: &'static str,
}

const fn next(command: &'static str, why: &'static str) -> Next {
    Next { command, why }
}

/// After `migrate`.
pub const AFTER_MIGRATE: Next = next(
    "run --discover",
    "loads the whole network; skyfill run --help names other ways",
);
/// After `discover`.
pub const AFTER_DISCOVER: Next = next("run", "loads the repos that were found");
/// After `consumer`.
pub const AFTER_CONSUMER: Next = next("identities", "looks up the accounts that were loaded");
/// After `identities`, where no run does the rest.
pub const AFTER_IDENTITIES: Next = next("finalize", "computes the rows that need other repos");
/// After `finalize`.
pub const AFTER_FINALIZE: Next = next("verify", "compares the tables with the signed commits");
/// After `verify --repair`.
pub const AFTER_REPAIR: Next = next("run", "fetches the marked repos again");

/// After a load or a comparison, by what the database holds then. `has_caught_up`: whether it was
/// brought up to the present just now.
#[must_use]
pub fn after_load(
    coverage: &Coverage,
    judgment: &Judgment,
    settings: &[Setting],
    has_caught_up: bool,
) -> Option<Next> {
    match judgment.verdict {
        Verdict::Empty => None,
        Verdict::Different => Some(next(
            "verify --repair",
            "marks the repos that differ, so that skyfill run fetches them again",
        )),
        Verdict::Unverified => Some(AFTER_FINALIZE),
        Verdict::Incomplete => Some(missing(coverage)),
        Verdict::Complete => complete(coverage, settings, has_caught_up),
    }
}

fn missing(coverage: &Coverage) -> Next {
    let count = |state: State| coverage.count(|other| other == state);
    if count(State::Pending) > 0 {
        return next("run", "continues with what is pending");
    }
    if count(State::Failed) > 0 {
        return next("status --failed", "says why repos failed, and what helps");
    }
    let is_listed = coverage
        .discovery
        .as_ref()
        .is_none_or(|discovery| discovery.is_ended && discovery.not_listed.is_empty());
    if !is_listed || count(State::Unresolved) > 0 || coverage.contested > 0 {
        return next(
            "run --discover",
            "lists the hosts again, and loads what was missing",
        );
    }
    next("status", "says what is missing")
}

fn complete(coverage: &Coverage, settings: &[Setting], has_caught_up: bool) -> Option<Next> {
    let is_claimed = settings
        .iter()
        .any(|setting| setting.name == "handles" && setting.values == ["claimed"]);
    if is_claimed {
        return Some(next(
            "identities --handles verified",
            "checks the handles that are stored as claimed",
        ));
    }
    // Whoever named the repos does not want the rest of the network.
    let wants_all = coverage.discovery.is_some() && !has_caught_up;
    wants_all.then_some(next(
        "catch-up",
        "brings the tables up to the present, until an AppView can take over",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::coverage::Discovery;

    fn after(verdict: Verdict, coverage: &Coverage, has_caught_up: bool) -> Option<&'static str> {
        let judgment = Judgment {
            verdict,
            missing: Vec::new(),
            scope: Vec::new(),
        };
        after_load(coverage, &judgment, &[], has_caught_up).map(|next| next.command)
    }

    #[test]
    fn what_is_wrong_is_mended_first_and_then_it_is_caught_up() {
        let mut coverage = Coverage::default();
        assert_eq!(after(Verdict::Complete, &coverage, false), None);
        coverage.discovery = Some(Discovery {
            is_ended: true,
            ..Discovery::default()
        });
        let complete = after(Verdict::Complete, &coverage, false);
        assert_eq!(complete, Some("catch-up"));
        assert_eq!(after(Verdict::Complete, &coverage, true), None);
        let different = after(Verdict::Different, &coverage, false);
        assert_eq!(different, Some("verify --repair"));
        coverage.repos.insert(State::Failed, 1);
        let failed = after(Verdict::Incomplete, &coverage, false);
        assert_eq!(failed, Some("status --failed"));
        coverage.repos.insert(State::Pending, 1);
        assert_eq!(after(Verdict::Incomplete, &coverage, false), Some("run"));
    }
}
