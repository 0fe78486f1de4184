//! The next step after a command, so that nobody has to look it up.

use ledger::coverage::Coverage;
use ledger::runs;
use ledger::states::State;
use postgres::{Client, Error};
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
const AFTER_IDENTITIES: Next = next("finalize", "computes the rows that need other repos");
/// After `finalize`.
pub const AFTER_FINALIZE: Next = next("verify", "compares the tables with the signed commits");
/// After `verify --repair`.
pub const AFTER_REPAIR: Next = next("run", "fetches the marked repos again");

/// While handles are stored as claimed. It can be done beside whatever else is next.
pub const VERIFY_HANDLES: Next = next(
    "identities",
    "verifies the handles that are stored as claimed; the AppView can serve meanwhile",
);

/// After `identities`: nothing, if a run has done or does the rest.
///
/// # Errors
/// The server refused.
pub fn after_identities(client: &mut Client, schema: &str) -> Result<Option<Next>, Error> {
    let run = runs::last(client, schema)?;
    Ok(run.is_none().then_some(AFTER_IDENTITIES))
}

/// After a load or a comparison, by what the database holds then: what comes first, and what can be
/// done beside it. `has_caught_up`: whether it was brought up to the present just now.
#[must_use]
pub fn after_load(coverage: &Coverage, judgment: &Judgment, has_caught_up: bool) -> Vec<Next> {
    let first = match judgment.verdict {
        Verdict::Empty => None,
        Verdict::Different => Some(next(
            "verify --repair",
            "marks the repos that differ, so that skyfill run fetches them again",
        )),
        Verdict::Unverified => Some(AFTER_FINALIZE),
        Verdict::Incomplete => Some(missing(coverage)),
        Verdict::Complete => complete(coverage, has_caught_up),
    };
    let handles = (coverage.handles.claimed > 0).then_some(VERIFY_HANDLES);
    first.into_iter().chain(handles).collect()
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

fn complete(coverage: &Coverage, has_caught_up: bool) -> Option<Next> {
    // Whoever named the repos does not want the rest of the network.
    coverage.discovery.as_ref().map(|_| match has_caught_up {
        true => next(
            "follow",
            "keeps the tables up to date, in the place of the AppView's ingester",
        ),
        false => next(
            "catch-up",
            "brings the tables up to the present, until an AppView can take over",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::coverage::Discovery;

    fn next_after(verdict: Verdict, coverage: &Coverage, has_caught_up: bool) -> Vec<&'static str> {
        let judgment = Judgment {
            verdict,
            missing: Vec::new(),
            scope: Vec::new(),
            outside: Vec::new(),
        };
        let next = after_load(coverage, &judgment, has_caught_up);
        next.iter().map(|next| next.command).collect()
    }

    #[test]
    fn what_is_wrong_is_mended_first_and_then_it_is_caught_up() {
        let mut coverage = Coverage::default();
        assert!(next_after(Verdict::Complete, &coverage, false).is_empty());
        coverage.discovery = Some(Discovery {
            is_ended: true,
            ..Discovery::default()
        });
        let complete = next_after(Verdict::Complete, &coverage, false);
        assert_eq!(complete, ["catch-up"]);
        let caught_up = next_after(Verdict::Complete, &coverage, true);
        assert_eq!(caught_up, ["follow"]);
        let different = next_after(Verdict::Different, &coverage, false);
        assert_eq!(different, ["verify --repair"]);
        coverage.repos.insert(State::Failed, 1);
        let failed = next_after(Verdict::Incomplete, &coverage, false);
        assert_eq!(failed, ["status --failed"]);
        coverage.repos.insert(State::Pending, 1);
        assert_eq!(next_after(Verdict::Incomplete, &coverage, false), ["run"]);
        // Handles are verified beside it.
        coverage.handles.claimed = 1;
        assert_eq!(
            next_after(Verdict::Incomplete, &coverage, false),
            ["run", "identities"]
        );
    }
}
