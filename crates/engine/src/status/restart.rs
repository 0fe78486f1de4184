//! What a restart would do. It is the same decision that a run makes when it begins
//! (`run::pending`), from the same rows of the ledger; a test compares the two.

use ledger::coverage::Coverage;
use ledger::failures;
use ledger::runs::{Mode, Phase};
use ledger::settings::Setting;
use ledger::slices;
use ledger::states::State;
use observe::units::{count, counted};
use postgres::{Client, Error};
use serde_json::{Value, json};

/// Failed repos that are due are counted up to here.
const MOST_DUE: i64 = 1_000_000;

/// What a restart would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restart {
    /// The command that does it, without `skyfill`; none if nothing is known that it could do.
    pub command: Option<&'static str>,
    /// The run that it continues; a new one begins if there is none, and something is pending.
    pub continues: Option<i64>,
    /// The phase in which it begins.
    pub begins_in: Option<Phase>,
    /// Of a pass of discovery that did not end: hosts that are listed, and hosts that are left.
    pub lists: Option<(u64, u64)>,
    /// Repos that it fetches: those that are pending.
    pub fetches: u64,
    /// Failed repos that it retries: those whose time has come.
    pub retries: u64,
    /// Repos that are stored, and are not fetched again.
    pub keeps: u64,
    /// Dropped indexes that it rebuilds.
    pub rebuilds: u64,
    /// Slices of finalize that are done, and that there are so far.
    pub slices: Option<(u64, u64)>,
    /// The phases that follow.
    pub then: Vec<Phase>,
}

/// Reads it. Of `unended` see [`ledger::listing::unended`].
pub(crate) fn read(
    client: &mut Client,
    schema: &str,
    coverage: &Coverage,
    settings: &[Setting],
    dropped_indexes: u64,
    unended: Option<(u64, u64)>,
) -> Result<Restart, Error> {
    let retries = failures::count_due(client, schema, MOST_DUE)?;
    let (slices, done) = slices::count_all(client, schema)?;
    Ok(decide(
        coverage,
        settings,
        dropped_indexes,
        unended,
        retries,
        (done, slices),
    ))
}

fn decide(
    coverage: &Coverage,
    settings: &[Setting],
    dropped_indexes: u64,
    lists: Option<(u64, u64)>,
    retries: u64,
    slices: (u64, u64),
) -> Restart {
    let fetches = coverage.count(|state| state == State::Pending);
    let open = fetches + retries;
    let unfinished = coverage.run.as_ref().filter(|run| run.phase != Phase::Done);
    let mut restart = Restart {
        lists,
        fetches,
        retries,
        keeps: coverage.count(|state| state == State::Loaded),
        ..Restart::default()
    };
    let (begins_in, mode) = match unfinished {
        // Repos that were added after it had loaded are merged first.
        Some(run) if open > 0 && run.phase > Phase::Load => (Phase::Load, Mode::Merge),
        Some(run) => (run.phase, run.mode),
        None if open > 0 => {
            let is_filled = coverage.run.is_some() || restart.keeps > 0;
            let mode = if is_filled { Mode::Merge } else { Mode::Fresh };
            (Phase::Load, mode)
        }
        None if lists.is_some() => {
            restart.command = Some("run --discover");
            return restart;
        }
        None => return restart,
    };
    restart.command = Some(match lists {
        Some(_) => "run --discover",
        None => "run",
    });
    restart.continues = unfinished.map(|run| run.id);
    restart.begins_in = Some(begins_in);
    restart.then = Phase::ALL
        .into_iter()
        .filter(|phase| *phase > begins_in && is_wanted(*phase, mode, settings))
        .collect();
    restart.rebuilds = dropped_indexes;
    if begins_in == Phase::Finalize && slices.1 > 0 {
        restart.slices = Some(slices);
    }
    restart
}

/// Whether a phase does anything, by how rows are loaded and what is remembered.
fn is_wanted(phase: Phase, mode: Mode, settings: &[Setting]) -> bool {
    let has = |name: &str| settings.iter().any(|setting| setting.name == name);
    let skips_handles = settings
        .iter()
        .any(|setting| setting.name == "handles" && setting.values == ["skip"]);
    match phase {
        Phase::Load | Phase::Done => false,
        Phase::Vacuum => mode == Mode::Fresh,
        Phase::Identities => !skips_handles,
        Phase::Verify => !has("no-verify"),
        Phase::Indexes | Phase::Finalize => true,
    }
}

impl Restart {
    /// It in words, one phrase each.
    #[must_use]
    pub fn phrases(&self) -> Vec<String> {
        let mut phrases = Vec::new();
        if let Some((listed, left)) = self.lists {
            phrases.push(format!(
                "continues the pass of discovery: {} listed, {} left",
                counted(listed, "host"),
                count(left)
            ));
        }
        if self.lists.is_some() && self.begins_in.is_none() {
            phrases.push("then loads what was found".to_owned());
        }
        let Some(begins_in) = self.begins_in else {
            return phrases;
        };
        phrases.push(match self.continues {
            Some(run) => format!("continues run {run} in phase {}", begins_in.label()),
            None => "begins a new run".to_owned(),
        });
        if begins_in == Phase::Load {
            phrases.push(format!("fetches {}", counted(self.fetches, "pending repo")));
            if self.retries > 0 {
                phrases.push(format!(
                    "retries {} whose time has come",
                    counted(self.retries, "failed repo")
                ));
            }
            phrases.push(format!("keeps {}", counted(self.keeps, "loaded repo")));
        }
        if self.rebuilds > 0 && begins_in <= Phase::Indexes {
            let dropped = counted(self.rebuilds, "dropped index");
            phrases.push(format!("rebuilds {dropped}"));
        }
        if let Some((done, all)) = self.slices {
            phrases.push(format!(
                "keeps {} of {} planned so far",
                count(done),
                counted(all, "slice")
            ));
        }
        if !self.then.is_empty() {
            let labels: Vec<&str> = self.then.iter().map(|phase| phase.label()).collect();
            phrases.push(format!("then {}", labels.join(", ")));
        }
        phrases
    }

    /// It as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "command": self.command.map(|command| format!("skyfill {command}")),
            "continuesRun": self.continues,
            "phase": self.begins_in.map(Phase::word),
            "hostsListed": self.lists.map(|(listed, _)| listed),
            "hostsLeft": self.lists.map(|(_, left)| left),
            "fetches": self.fetches,
            "retries": self.retries,
            "keeps": self.keeps,
            "rebuildsIndexes": self.rebuilds,
            "slicesDone": self.slices.map(|(done, _)| done),
            "slicesPlanned": self.slices.map(|(_, all)| all),
            "then": self.then.iter().map(|phase| phase.word()).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::runs::Run;

    fn coverage(phase: Phase, pending: u64) -> Coverage {
        Coverage {
            repos: [(State::Loaded, 10), (State::Pending, pending)].into(),
            run: Some(Run {
                id: 3,
                now: String::new(),
                mode: Mode::Fresh,
                phase,
                collections: None,
                notifications: "all".to_owned(),
                since: None,
            }),
            ..Coverage::default()
        }
    }

    fn decided(coverage: &Coverage, settings: &[Setting]) -> Restart {
        decide(coverage, settings, 5, None, 0, (2, 7))
    }

    #[test]
    fn what_is_done_is_not_done_again() {
        let restart = decided(&coverage(Phase::Finalize, 0), &[]);
        assert_eq!(restart.begins_in, Some(Phase::Finalize));
        assert_eq!(restart.slices, Some((2, 7)));
        assert_eq!(restart.then, [Phase::Verify]);
        let phrases = restart.phrases().join("; ");
        assert_eq!(
            phrases,
            "continues run 3 in phase finalize; keeps 2 of 7 slices planned so far; then verify"
        );
    }

    #[test]
    fn repos_that_came_later_are_merged_first() {
        let restart = decided(&coverage(Phase::Verify, 4), &[]);
        assert_eq!(
            (restart.begins_in, restart.continues),
            (Some(Phase::Load), Some(3))
        );
        assert!(!restart.then.contains(&Phase::Vacuum));
        let restart = decided(&coverage(Phase::Done, 4), &[]);
        assert_eq!(
            (restart.begins_in, restart.continues),
            (Some(Phase::Load), None)
        );
    }

    #[test]
    fn what_is_remembered_counts_and_of_nothing_nothing_is_promised() {
        let setting = |name: &str, values: &[&str]| Setting {
            name: name.to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            from_environment: false,
            of_run: false,
        };
        let settings = [setting("handles", &["skip"]), setting("no-verify", &[])];
        let restart = decided(&coverage(Phase::Load, 1), &settings);
        let then = [Phase::Indexes, Phase::Vacuum, Phase::Finalize];
        assert_eq!(restart.then, then);
        let nothing = decided(&coverage(Phase::Done, 0), &[]);
        assert!(nothing.command.is_none() && nothing.phrases().is_empty());
        let listing = decide(&Coverage::default(), &[], 0, Some((2, 3)), 0, (0, 0));
        assert_eq!(listing.command, Some("run --discover"));
    }
}
