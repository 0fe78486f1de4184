//! `skyfill catch-up`: from tables that were loaded to an AppView that misses nothing.
//!
//! Each pass notes where the relay's stream is, then lists all hosts, fetches what is newer, and
//! does what comes after loading. What happened before that place in the stream is in the tables
//! then. As long as the relay still has all that came after it, an AppView that subscribes gets the
//! rest; docs/how-to/live-appview.md says why nothing falls in between.

use crate::certificate;
use crate::cli::{CatchUpArgs, LoadMode};
use crate::discovery;
use crate::fetch_args;
use crate::run::{NewRun, Setting, phases};
use crate::told;
use ledger::runs::{self, Phase};
use ledger::states::State;
use process::Database;
use process::clock;
use process::{Ended, Failure};

pub(crate) fn run(given: &CatchUpArgs) -> Result<Ended, Failure> {
    let database = Database::open_to_go_on(&given.load.database.target())?;
    let forget = given.load.remember.forget_settings;
    let args: &CatchUpArgs = &told::complete(&database, forget)?;
    let load = &fetch_args::load_naming(&args.load, &args.source)?;
    let now = args.now.as_deref();
    let set = Setting::new(database, load)?;
    told::remember(&set.database, forget)?;
    let relay = discovery::relay_of(&args.source)?;
    let http = discovery::list_client(&load.fetch, &load.caller)?;
    let mut client = set.database.connect()?;
    let last = runs::last(&mut client, &set.database.schema)
        .map_err(|error| set.database.failure(error))?;
    drop(client);
    if let Some(last) = last.as_ref().filter(|last| last.phase != Phase::Done) {
        // A fresh load takes no newer revs: it ends first.
        observe::log!("run {} is not done; it comes first", last.id);
        let new = NewRun {
            now: clock::now(now)?,
            mode: LoadMode::Auto,
            choice: None,
        };
        match set.load_open(load, &new, None, None)? {
            Some(done) if done.is_stopped() => return Ok(stopped()),
            _ => {}
        }
    }
    if last.is_none() {
        return Err(
            Failure::usage("nothing was loaded yet: there is nothing to catch up with")
                .hint("load first, for example: skyfill run --discover"),
        );
    }
    for number in 1..=args.passes {
        let Some(pass) = discovery::pass(&set, &args.source, load, true)? else {
            return Ok(stopped());
        };
        let new = NewRun {
            now: clock::now(now)?,
            mode: LoadMode::Auto,
            choice: None,
        };
        if !phases::look_at_changed(load, &set.database, &new, &set.stop)? {
            return Ok(stopped());
        }
        let done = set.load_open(load, &new, None, Some((&relay, pass.seq)))?;
        if done.is_some_and(|done| done.is_stopped()) {
            return Ok(stopped());
        }
        let Some(seq) = pass.seq else {
            return Err(Failure::new(format!(
                "where {relay} is could not be learned, so that nobody can say whether a gap is left"
            ))
            .hint("the tables are up to date; run it again, or name another relay with --relay"));
        };
        let keeps = set
            .runtime
            .block_on(discovery::relay::keeps(&http, &relay, seq, &set.stop));
        if set.stop.is_set() {
            return Ok(stopped());
        }
        let keeps = keeps.map_err(|error| {
            Failure::new(format!("the relay {relay}: {error}"))
                .hint("the tables are up to date; run it again when the relay answers")
        })?;
        if !keeps {
            observe::log!(
                "pass {number}: {relay} does not keep what came after {seq} any more; once more"
            );
            continue;
        }
        let coverage = certificate::coverage(&set.database)?;
        let missing = coverage.count(State::is_unfinished);
        if load.output.json {
            observe::data!(
                "{}",
                serde_json::json!({
                    "relay": relay, "cursor": seq, "passes": number, "failedHosts": pass.failed_hosts.len(), "missingRepos": missing,
                })
            );
        }
        observe::log!(
            "{relay} still has all that came after sequence number {seq}: an AppView that subscribes to it may be started now. The official one \
             takes no cursor, it replays all that the relay keeps; others begin at {seq} or before"
        );
        if missing > 0 || !pass.failed_hosts.is_empty() {
            observe::log!(
                "but {} hosts could not be listed and {missing} repos not be loaded: of those, older changes may be missing; run it again later",
                pass.failed_hosts.len()
            );
        }
        return Ok(set.judged(load, &coverage, 0));
    }
    Err(Failure::new(format!(
        "after {} passes {relay} still forgets events faster than a pass takes",
        args.passes
    ))
    .hint("give it more --concurrency and --max-db-connections, or use a relay that keeps events for longer"))
}

fn stopped() -> Ended {
    observe::log!("stopped; go on with: {}", told::line_to_go_on_with());
    Ended::Stopped
}
