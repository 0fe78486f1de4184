//! Catches up: from loaded tables to an AppView that misses nothing.
//!
//! Each pass records the position of the relay's stream, lists all hosts, fetches newer repos, and
//! runs the phases after loading. Then everything that happened before that position is in the
//! tables. As long as the relay still has all later events, an AppView that subscribes receives the
//! rest. docs/how-to/live-appview.md shows why nothing is lost in between.

use crate::certificate;
use crate::discovery::{self, Source, list_client};
use crate::run::{NewRun, Session, load_pending, phases};
use ledger::coverage::Coverage;
use ledger::repos;
use ledger::runs::{self, Phase};
use ledger::states::State;
use observe::units::{counted, rough, span};
use process::{Failure, clock};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How tables are brought up to the present.
pub struct Options {
    /// The relay that an AppView subscribes to, and other sources.
    pub source: Source,
    /// Maximum number of passes; it ends earlier when there is no gap left.
    pub passes: u32,
    /// The time of the passes, in milliseconds since 1970; without one, that of the clock.
    pub now: Option<i64>,
}

/// How it ended.
pub enum CatchUpEnd {
    /// No gap is left: an AppView may take over.
    CaughtUp(Box<CaughtUp>),
    /// It was stopped.
    Stopped,
}

/// From where an AppView may take over.
pub struct CaughtUp {
    /// The sequence number of the relay from which it needs all events.
    pub cursor: i64,
    /// Passes that it took.
    pub passes: u32,
    /// Hosts that could not be listed.
    pub failed_hosts: usize,
    /// Repos that are not loaded.
    pub missing: u64,
    /// What the database holds.
    pub coverage: Coverage,
}

impl CaughtUp {
    /// The same as JSON, with the relay.
    #[must_use]
    pub fn json(&self, relay: &str) -> Value {
        json!({
            "relay": relay,
            "cursor": self.cursor,
            "passes": self.passes,
            "failedHosts": self.failed_hosts,
            "missingRepos": self.missing,
        })
    }

    /// The same for people.
    #[must_use]
    pub fn lines(&self, relay: &str) -> Vec<String> {
        let cursor = self.cursor;
        let mut lines = vec![format!(
            "{relay} still has all events after sequence number {cursor}: an AppView that subscribes to it can be started now. The official one \
             accepts no cursor and replays all that the relay keeps; others begin at {cursor} or before"
        )];
        if self.missing > 0 || self.failed_hosts > 0 {
            let hosts = counted(self.failed_hosts as u64, "host");
            let repos = counted(self.missing, "repo");
            let what = match (self.failed_hosts, self.missing) {
                (0, _) => format!("{repos} could not be loaded"),
                (_, 0) => format!("{hosts} could not be listed"),
                _ => format!("{hosts} could not be listed and {repos} could not be loaded"),
            };
            lines.push(format!(
                "but {what}: their older changes may be missing; run it again later"
            ));
        }
        lines
    }
}

/// Goes over all hosts until no gap is left.
///
/// # Errors
/// The database, the network or the relay cannot be used, or the relay forgets events faster than a
/// pass takes.
pub fn catch_up(session: &Session<'_>, options: &Options) -> Result<CatchUpEnd, Failure> {
    let (database, source) = (session.database, &options.source);
    phases::plan(session.options, true);
    let relay = source.relay();
    let last = runs::last(&mut *database.connect()?, &database.schema)
        .map_err(|error| database.failure(error))?;
    let Some(last) = last else {
        return Err(
            Failure::usage("nothing was loaded yet, so there is nothing to catch up")
                .hint_to_run("load first, for example", "run --discover"),
        );
    };
    if last.phase != Phase::Done {
        // A fresh load takes no newer revs: it ends first.
        observe::log!("run {} is not done; it is finished first", last.id);
        let new = new_run(options)?;
        if load_pending(session, &new, &mut None, None, None)?.is_some_and(|done| done.is_stopped())
        {
            return Ok(CatchUpEnd::Stopped);
        }
    }
    let mut pace = Pace::default();
    for number in 1..=options.passes {
        let began = Instant::now();
        let Some(pass) = session.discovery(source).pass(true)? else {
            return Ok(CatchUpEnd::Stopped);
        };
        let new = new_run(options)?;
        if !phases::look_up_changed(session, new.now)? {
            return Ok(CatchUpEnd::Stopped);
        }
        let listed = began.elapsed();
        let changed = repos::count_open(
            &mut *database.connect()?,
            &database.schema,
            ledger::open::Which::All,
        )
        .map_err(|error| database.failure(error))?;
        let done = load_pending(session, &new, &mut None, Some((relay, pass.seq)), None)?;
        if done.is_some_and(|done| done.is_stopped()) {
            return Ok(CatchUpEnd::Stopped);
        }
        let took = began.elapsed();
        observe::log!(
            "pass {number} took {}: {} to list the hosts, the rest for {}{}",
            span(took.as_secs_f64()),
            span(listed.as_secs_f64()),
            counted(changed, "repo"),
            pace.after(began, listed, took, changed)
        );
        let Some(cursor) = pass.seq else {
            return Err(Failure::new(format!(
                "the position of {relay} is unknown, so it is unknown whether a gap is left"
            ))
            .hint("the tables are up to date; run it again, or name another relay with --relay"));
        };
        match keeps(session, relay, cursor)? {
            None => return Ok(CatchUpEnd::Stopped),
            Some(false) => observe::log!(
                "pass {number}: {relay} no longer has all events after {cursor}; another pass follows"
            ),
            Some(true) => {
                let failed_hosts = pass.failed_hosts.len();
                let caught_up = caught_up(session, relay, cursor, number, failed_hosts)?;
                return Ok(CatchUpEnd::CaughtUp(Box::new(caught_up)));
            }
        }
    }
    Err(Failure::new(format!(
        "after {} passes, {relay} still drops events faster than a pass takes",
        options.passes
    ))
    .hint(
        "raise --concurrency and --max-db-connections, or use a relay that keeps events for longer",
    ))
}

/// Notes where `follow` is to begin, and reads what the database holds now.
fn caught_up(
    session: &Session<'_>,
    relay: &str,
    cursor: i64,
    passes: u32,
    failed_hosts: usize,
) -> Result<CaughtUp, Failure> {
    let database = session.database;
    let http = list_client(&session.options.fetch, 1)?;
    let head = discovery::relay::current_seq(&http, relay, &session.stop);
    let head = session.runtime.block_on(head).ok();
    let mut client = database.connect()?;
    ledger::follow::move_cursor(&mut *client, &database.schema, relay, cursor, head)
        .map_err(|error| database.failure(error))?;
    let coverage = certificate::coverage(database)?;
    Ok(CaughtUp {
        cursor,
        passes,
        failed_hosts,
        missing: coverage.count(State::is_unfinished),
        coverage,
    })
}

/// How long passes take: what changes during one is what the next one has to do.
#[derive(Default)]
struct Pace {
    /// When the last pass began.
    last: Option<Instant>,
}

impl Pace {
    /// Adds a pass, and says what to expect of the next one. Of the first pass nobody knows in what
    /// time its repos changed.
    fn after(&mut self, began: Instant, listed: Duration, took: Duration, changed: u64) -> String {
        let Some(since) = self.last.replace(began) else {
            return String::new();
        };
        let between = (began - since).as_secs_f64();
        let Some(seconds) = next_pass(between, listed.as_secs_f64(), took.as_secs_f64(), changed)
        else {
            return String::new();
        };
        let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        format!("; the next one would take about {}", rough(time))
    }
}

/// The seconds that the next pass takes if as much changes per second as in the `between` seconds
/// before this one, and a repo takes as long.
#[allow(clippy::cast_precision_loss)]
fn next_pass(between: f64, listed: f64, took: f64, changed: u64) -> Option<f64> {
    if changed == 0 || between <= 0.0 {
        return None;
    }
    let per_repo = (took - listed).max(0.0) / changed as f64;
    let changed_meanwhile = changed as f64 / between * took;
    Some(listed + per_repo * changed_meanwhile)
}

/// A run that begins now.
fn new_run(options: &Options) -> Result<NewRun, Failure> {
    Ok(NewRun {
        now: match options.now {
            Some(now) => now,
            None => clock::now(None)?,
        },
        mode: None,
        choice: None,
        is_sent: false,
    })
}

/// Whether the relay still has all that came after `cursor`; nothing if it was stopped.
fn keeps(session: &Session<'_>, relay: &str, cursor: i64) -> Result<Option<bool>, Failure> {
    let http = list_client(&session.options.fetch, 1)?;
    let asked = discovery::relay::keeps(&http, relay, cursor, &session.stop);
    let keeps = session.runtime.block_on(asked);
    if session.stop.is_set() {
        return Ok(None);
    }
    keeps.map(Some).map_err(|error| {
        Failure::new(format!("the relay {relay}: {error}"))
            .hint("the tables are up to date; run it again when the relay responds")
    })
}

#[cfg(test)]
mod tests {
    use super::next_pass;

    #[test]
    fn a_pass_has_as_much_to_do_as_changed_during_the_last_one() {
        // 600 repos changed in 60 s, and took 20 s: in the 30 s of the pass 300 change.
        assert_eq!(next_pass(60.0, 10.0, 30.0, 600), Some(20.0));
        assert_eq!(next_pass(60.0, 10.0, 30.0, 0), None);
    }
}
