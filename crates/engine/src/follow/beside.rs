//! What goes on beside the stream: repos that are behind are fetched and merged, and accounts are
//! looked up.
//!
//! The merge is that of a run, which waits for repos as it waits for those that a pass of discovery
//! finds. It ends and begins again now and then, so that nothing that it keeps in memory grows.

use super::shared::Following;
use crate::discovery::Beside;
use crate::discovery::arrivals::Arrivals;
use crate::identities::{self, Bulk, Options as IdentityOptions};
use crate::proof;
use crate::run::memory::pages_of;
use crate::run::stages;
use fetch::turns::Turns;
use ledger::follow;
use ledger::locks::Lock;
use ledger::repos::{self, RetryFailed};
use ledger::runs::{self, Run};
use process::{Failure, clock};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A merge ends after so long, and the next one begins.
const MERGE: Duration = Duration::from_secs(15 * 60);
/// Repos that are behind are looked at this often.
const SETTLE_EVERY: Duration = Duration::from_millis(500);
/// Accounts that are due are looked for this often.
const LOOK_UP_EVERY: Duration = Duration::from_secs(1);
/// Failed repos whose time has come are opened this often.
const RETRY_EVERY: Duration = Duration::from_secs(60);
/// Accounts that are looked up concurrently.
const LOOK_UPS_AT_ONCE: usize = 32;
/// Attempts at each document of a look-up.
const ATTEMPTS: u32 = 4;

/// Merges repos that are behind until it is stopped.
pub(super) fn merge(shared: &Following<'_>, run: &Run) -> Result<(), Failure> {
    let session = shared.session;
    let database = session.database;
    while !shared.is_over() {
        let now = rows::datetime::print(clock::now(None)?);
        let run = database
            .patient(&session.stop)
            .run(|client| runs::of_follow(client, &database.schema, run, &now))?;
        let arrivals = Arrivals::default();
        arrivals.begin(None);
        let turns = {
            let _within = session.runtime.enter();
            Turns::start(session.options.fetch.pace(session.options.scale.slots))
        };
        let beside = Beside {
            arrivals: &arrivals,
            turns: &turns,
            pages: pages_of(session.options.scale.memory),
            is_stream: true,
            is_paused: Some(&shared.is_computing),
        };
        std::thread::scope(|scope| {
            let settling = scope.spawn(|| {
                /// Lets the merge end, whatever ends this.
                struct Over<'o>(&'o Arrivals);
                impl Drop for Over<'_> {
                    fn drop(&mut self) {
                        self.0.end();
                    }
                }
                let _over = Over(&arrivals);
                settle(shared, &arrivals)
            });
            let merged = stages::load(session, &run, None, 0, Some(beside));
            if merged.is_err() {
                shared.break_off();
            }
            let settled = settling
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            merged.map(drop)?;
            settled
        })?;
    }
    Ok(())
}

/// Looks at repos that are behind, and tells the merge of those that are open, for as long as a
/// merge lasts.
fn settle(shared: &Following<'_>, arrivals: &Arrivals) -> Result<(), Failure> {
    let (database, stop) = (shared.session.database, &shared.session.stop);
    let mut client = database.patient(stop);
    let began = Instant::now();
    let mut retried = Instant::now();
    while !shared.is_over() && began.elapsed() < MERGE {
        let schema = &database.schema;
        let opened = client.run(|client| follow::settle(client, schema))?;
        if retried.elapsed() > RETRY_EVERY {
            client.run(|client| repos::retry_failed(client, schema, RetryFailed::Due))?;
            retried = Instant::now();
        }
        let untried = client.run(|client| follow::count_untried(client, schema))?;
        Following::count(&shared.fetched, opened == 0 && untried == 0);
        if opened > 0 || untried > 0 {
            arrivals.stored();
        }
        shared.sleep(SETTLE_EVERY);
    }
    Ok(())
}

/// Looks up accounts that are due, and proves what was stored before its document was known, until
/// it is stopped. Others that look up accounts wait only while there is something to do.
pub(super) fn look_up(shared: &Following<'_>) -> Result<(), Failure> {
    let session = shared.session;
    let Some(handles) = session.options.handles else {
        return Ok(());
    };
    let (database, stop) = (session.database, &session.stop);
    let schema = &database.schema;
    let mut looking = database.patient(stop);
    let documents = Arc::new(session.options.directory.documents(ATTEMPTS)?);
    while !shared.is_over() {
        let began = Instant::now();
        let is_due = looking.run(|client| ledger::identity::are_so_many_due(client, schema, 1))?;
        // Where millions wait for their time, this takes a while.
        let pause = LOOK_UP_EVERY.max(began.elapsed() * 10);
        if is_due {
            let options = IdentityOptions {
                handles,
                settles: false,
                bulk: Bulk::Nothing,
                retry: false,
                recheck: false,
                dids: None,
                now: clock::now(None)?,
                directory: session.options.directory.clone(),
                concurrency: LOOK_UPS_AT_ONCE,
            };
            let mut client = database.patient_alone(stop, Lock::Identities);
            identities::look_up_due(&options, database, &session.runtime, stop, &mut client)?;
            proof::prove(schema, &mut client, &session.runtime, &documents, stop)?;
        }
        let are_fetched = shared.fetched.load(Ordering::SeqCst) > 0;
        Following::count(&shared.looked_up, !is_due && are_fetched);
        shared.sleep(pause);
    }
    Ok(())
}
