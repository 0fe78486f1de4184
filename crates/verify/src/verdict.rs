//! The verdict: one word for what a database holds, and the definition of "complete".
//!
//! [`judge`] combines what the ledger knows ([`Coverage`]) with what the last comparison of the
//! tables with the signed commits found. It is the only place that decides: the end of `skyfill
//! run`, `skyfill verify`, its certificate and `skyfill status` all use it.

use ledger::coverage::{Coverage, Proof};
use ledger::runs::Phase;
use ledger::settings::Setting;
use ledger::states::State;

/// The word. If several apply, the lowest in this list is the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every host that discovery knows is listed, every known repo is loaded or gone, and the
    /// tables hold exactly what the signed commits say. What the operator left out by choice is the
    /// scope of the verdict ([`Judgment::scope`]). It says nothing about handles
    /// ([`Judgment::outside`]).
    Complete,
    /// As `Complete`, but the tables were not compared with the commits since the last load.
    Unverified,
    /// Something that is known is missing ([`Judgment::missing`]).
    Incomplete,
    /// The ledger knows no repo, so there is nothing to judge.
    Empty,
    /// The tables differ from the signed commits.
    Different,
}

/// A verdict with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgment {
    /// The word.
    pub verdict: Verdict,
    /// What is missing or wrong, one phrase each.
    pub missing: Vec<String>,
    /// What the operator left out by choice, one phrase each.
    pub scope: Vec<String>,
    /// What is known to be unfinished although the verdict does not cover it, one phrase each. No
    /// commit says whether a handle leads to its account, so handles are here.
    pub outside: Vec<String>,
}

/// What is judged in addition to the ledger's coverage.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    /// Differences that the comparison found; `None` if there was no comparison.
    pub differences: Option<u64>,
    /// Accounts whose signatures were to be checked but could not be.
    pub unchecked_signatures: u64,
    /// Lines of the operator's own lists that could not be read.
    pub bad_lines: u64,
}

impl Compared {
    /// The result of the last comparison, if nothing was loaded since.
    #[must_use]
    pub fn before(coverage: &Coverage) -> Self {
        let current = coverage.proof.as_ref().filter(|proof| proof.is_current);
        Self {
            differences: current.map(|proof: &Proof| proof.differences),
            ..Self::default()
        }
    }
}

impl Verdict {
    /// The word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Unverified => "unverified",
            Self::Incomplete => "incomplete",
            Self::Empty => "empty",
            Self::Different => "different",
        }
    }

    /// The definition of the word, for readers of a certificate.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Complete => {
                "every host that discovery knows is listed, every known repo is loaded or gone, and within the scope the tables hold exactly what the signed commits say"
            }
            Self::Unverified => {
                "every host that discovery knows is listed and every known repo is loaded or gone, but the tables were not compared with the signed commits since the last load"
            }
            Self::Incomplete => "something that is known is missing",
            Self::Empty => "no repo is known",
            Self::Different => "the tables differ from the signed commits",
        }
    }

    /// Whether a command that reports it ends with exit code 0.
    #[must_use]
    pub fn is_complete(self) -> bool {
        self == Self::Complete
    }
}

/// Judges everything that a database is known to hold.
#[must_use]
pub fn judge(coverage: &Coverage, compared: &Compared) -> Judgment {
    let missing = missing(coverage, compared);
    let differences = compared.differences.unwrap_or(0);
    let verdict = if differences > 0 {
        Verdict::Different
    } else if coverage.repos.is_empty() {
        Verdict::Empty
    } else if !missing.is_empty() {
        Verdict::Incomplete
    } else if compared.differences.is_none() {
        Verdict::Unverified
    } else {
        Verdict::Complete
    };
    Judgment {
        verdict,
        missing,
        scope: scope(coverage),
        outside: outside(coverage),
    }
}

/// Judges single accounts that were compared; `unfinished` of them are in an unfinished state.
#[must_use]
pub fn judge_accounts(accounts: &[String], unfinished: u64, compared: &Compared) -> Judgment {
    let mut missing = Vec::new();
    add(
        &mut missing,
        unfinished,
        "repo is not loaded",
        "repos are not loaded",
    );
    add_unchecked(&mut missing, compared);
    let differences = compared.differences.unwrap_or(0);
    Judgment {
        verdict: if differences > 0 {
            Verdict::Different
        } else if accounts.is_empty() {
            Verdict::Empty
        } else if !missing.is_empty() {
            Verdict::Incomplete
        } else {
            Verdict::Complete
        },
        missing,
        scope: vec![format!("only the accounts {}", accounts.join(", "))],
        outside: Vec::new(),
    }
}

fn missing(coverage: &Coverage, compared: &Compared) -> Vec<String> {
    let mut missing = Vec::new();
    if let Some(discovery) = &coverage.discovery {
        if !discovery.is_ended {
            missing.push("the last pass of discovery did not end".to_owned());
        }
        let hosts = discovery.not_listed.len() as u64;
        add(
            &mut missing,
            hosts,
            "host could not be listed",
            "hosts could not be listed",
        );
    }
    add(
        &mut missing,
        compared.bad_lines,
        "line of the input could not be read",
        "lines of the input could not be read",
    );
    for state in State::ALL.into_iter().filter(|state| state.is_unfinished()) {
        let (one, many) = match state {
            State::Failed => ("repo failed", "repos failed"),
            State::Unresolved => (
                "repo is on no host that is known for certain",
                "repos are on no host that is known for certain",
            ),
            State::Partial => (
                "repo is sent or stored in part",
                "repos are sent or stored in part",
            ),
            _ => ("repo is pending", "repos are pending"),
        };
        add(
            &mut missing,
            coverage.count(|other| other == state),
            one,
            many,
        );
    }
    add(
        &mut missing,
        coverage.contested,
        "repo is contested: two hosts list it as active",
        "repos are contested: two hosts list each as active",
    );
    if let Some(run) = coverage
        .run
        .as_ref()
        .filter(|run| run.phase < Phase::Verify)
    {
        missing.push(format!(
            "run {} is still in phase {}",
            run.id,
            run.phase.word()
        ));
    }
    add_unchecked(&mut missing, compared);
    missing
}

fn add_unchecked(missing: &mut Vec<String>, compared: &Compared) {
    add(
        missing,
        compared.unchecked_signatures,
        "signature could not be checked",
        "signatures could not be checked",
    );
}

fn add(phrases: &mut Vec<String>, count: u64, one: &str, many: &str) {
    match count {
        0 => {}
        1 => phrases.push(format!("1 {one}")),
        _ => phrases.push(format!("{count} {many}")),
    }
}

/// What is unfinished beside what the verdict covers.
fn outside(coverage: &Coverage) -> Vec<String> {
    let mut outside = Vec::new();
    add(
        &mut outside,
        coverage.handles.claimed,
        "handle is stored as claimed and not verified yet",
        "handles are stored as claimed and not verified yet",
    );
    add(
        &mut outside,
        coverage.handles.unreachable,
        "handle could not be reached and counts as none",
        "handles could not be reached and count as none",
    );
    outside
}

/// What was left out by choice.
fn scope(coverage: &Coverage) -> Vec<String> {
    let mut scope = Vec::new();
    if coverage.discovery.is_none() {
        scope.push("only the repos that were named: there was no discovery".to_owned());
    }
    let opted_out = coverage.count(|state| state == State::OptedOut);
    add(&mut scope, opted_out, "repo opted out", "repos opted out");
    let hosts = coverage
        .discovery
        .as_ref()
        .map_or(0, |discovery| discovery.opted_out.len() as u64);
    add(&mut scope, hosts, "host opted out", "hosts opted out");
    if let Some(run) = &coverage.run {
        if let Some(collections) = &run.collections {
            scope.push(format!("only the collections {}", collections.join(", ")));
        }
        if let Some(since) = &run.since {
            scope.push(format!("posts, gates, likes and reposts since {since}"));
        }
        if run.notifications != "all" {
            scope.push(format!("notifications: {}", run.notifications));
        }
    }
    if !coverage.chosen.is_empty() {
        let chosen: Vec<String> = coverage.chosen.iter().flat_map(Setting::words).collect();
        scope.push(format!("accounts that were chosen: {}", chosen.join(" ")));
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::coverage::Discovery;
    use ledger::runs::{Mode, Run};

    const WELL: Compared = Compared {
        differences: Some(0),
        unchecked_signatures: 0,
        bad_lines: 0,
    };

    /// All is well: 3 hosts listed, 10 repos loaded, 2 gone.
    fn well() -> Coverage {
        Coverage {
            discovery: Some(Discovery {
                is_ended: true,
                listed: 3,
                ..Discovery::default()
            }),
            repos: [
                (State::Loaded, 10),
                (State::Deleted, 1),
                (State::Takendown, 1),
            ]
            .into(),
            run: Some(Run {
                id: 1,
                now: "2026-11-01T00:00:00.000Z".to_owned(),
                mode: Mode::Fresh,
                phase: Phase::Done,
                collections: None,
                notifications: "all".to_owned(),
                since: None,
            }),
            ..Coverage::default()
        }
    }

    fn word(coverage: &Coverage, compared: &Compared) -> &'static str {
        judge(coverage, compared).verdict.word()
    }

    #[test]
    fn complete_means_that_nothing_known_is_missing() {
        let all_well = judge(&well(), &WELL);
        assert_eq!(all_well.verdict, Verdict::Complete);
        assert!(all_well.missing.is_empty() && all_well.scope.is_empty());
        let changes: [(&str, fn(&mut Coverage)); 7] = [
            ("1 host could not be listed", |c| {
                let discovery = c.discovery.as_mut().unwrap();
                discovery
                    .not_listed
                    .push(("pds.example".to_owned(), "away".to_owned()));
            }),
            ("the last pass of discovery", |c| {
                c.discovery.as_mut().unwrap().is_ended = false;
            }),
            ("18 repos failed", |c| _ = c.repos.insert(State::Failed, 18)),
            ("1 repo is on no host", |c| {
                _ = c.repos.insert(State::Unresolved, 1);
            }),
            ("2 repos are pending", |c| {
                _ = c.repos.insert(State::Pending, 2);
            }),
            ("1 repo is contested", |c| c.contested = 1),
            ("run 1 is still in phase finalize", |c| {
                c.run.as_mut().unwrap().phase = Phase::Finalize;
            }),
        ];
        for (phrase, change) in changes {
            let mut coverage = well();
            change(&mut coverage);
            let judgment = judge(&coverage, &WELL);
            assert_eq!(judgment.verdict, Verdict::Incomplete, "{phrase}");
            assert_eq!(judgment.missing.len(), 1, "{:?}", judgment.missing);
            assert!(
                judgment.missing[0].starts_with(phrase),
                "{:?}",
                judgment.missing
            );
        }
    }

    #[test]
    fn differences_come_first_and_nothing_is_not_complete() {
        let different = Compared {
            differences: Some(1),
            ..WELL
        };
        let mut failed = well();
        failed.repos.insert(State::Failed, 1);
        assert_eq!(word(&failed, &different), "different");
        assert_eq!(word(&Coverage::default(), &different), "different");
        assert_eq!(word(&Coverage::default(), &WELL), "empty");
        assert_eq!(word(&well(), &Compared::default()), "unverified");
        let unchecked = Compared {
            unchecked_signatures: 1,
            ..WELL
        };
        assert_eq!(word(&well(), &unchecked), "incomplete");
    }

    /// `complete` is about what follows from the signed commits. Whoever reads it is told all the
    /// same that handles are not verified.
    #[test]
    fn handles_that_are_not_verified_are_named_beside_the_verdict() {
        let mut coverage = well();
        coverage.handles.verified = 7;
        assert!(judge(&coverage, &WELL).outside.is_empty());
        coverage.handles.claimed = 2;
        coverage.handles.unreachable = 1;
        let judgment = judge(&coverage, &WELL);
        assert_eq!(judgment.verdict, Verdict::Complete);
        assert!(judgment.missing.is_empty() && judgment.scope.is_empty());
        assert_eq!(
            judgment.outside,
            [
                "2 handles are stored as claimed and not verified yet",
                "1 handle could not be reached and counts as none"
            ]
        );
    }

    #[test]
    fn what_was_left_out_by_choice_is_named_and_does_not_count_as_missing() {
        let mut part = well();
        part.discovery = None;
        part.repos.insert(State::OptedOut, 2);
        let run = part.run.as_mut().unwrap();
        run.collections = Some(vec!["app.bsky.feed.post".to_owned()]);
        run.notifications = "none".to_owned();
        let judgment = judge(&part, &WELL);
        assert_eq!(judgment.verdict, Verdict::Complete);
        assert_eq!(
            judgment.scope,
            [
                "only the repos that were named: there was no discovery",
                "2 repos opted out",
                "only the collections app.bsky.feed.post",
                "notifications: none"
            ]
        );
        let run = part.run.as_mut().unwrap();
        run.since = Some("2025-01-01T00:00:00.000Z".to_owned());
        part.chosen = vec![Setting {
            name: "followed-by".to_owned(),
            values: vec!["alice.test".to_owned()],
            from_environment: false,
            of_run: false,
        }];
        let scope = judge(&part, &WELL).scope;
        assert_eq!(
            scope[3],
            "posts, gates, likes and reposts since 2025-01-01T00:00:00.000Z"
        );
        assert_eq!(
            scope[5],
            "accounts that were chosen: --followed-by alice.test"
        );
    }

    #[test]
    fn an_older_comparison_counts_until_something_is_loaded() {
        let mut coverage = well();
        assert_eq!(Compared::before(&coverage).differences, None);
        coverage.proof = Some(Proof {
            began: String::new(),
            differences: 3,
            is_current: true,
        });
        assert_eq!(Compared::before(&coverage).differences, Some(3));
        coverage.proof.as_mut().unwrap().is_current = false;
        assert_eq!(Compared::before(&coverage).differences, None);
    }
}
