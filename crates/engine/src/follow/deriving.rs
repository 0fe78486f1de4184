//! Computes the derived rows of what is stored, again and again, on a connection of its own: events
//! do not wait for it, unless everything has to be computed.

use super::shared::Following;
use ::finalize::{Finalize, FinalizeEnd, FinalizeError, Report};
use ledger::changes;
use load::Notifications;
use process::Failure;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Derived rows are computed this often, as long as it keeps up; when it is far behind, more
/// rarely.
const FINALIZE_EVERY: Duration = Duration::from_secs(1);
const FINALIZE_BEHIND: Duration = Duration::from_secs(10);
/// Between two computations there are so many times as long as the last one took.
const PAUSE_OF_FINALIZE: u32 = 2;
/// So often all derived rows are begun anew because of what was being stored.
const BEGUN_ANEW: u32 = 10;
/// It is far behind when so many events wait.
const FAR_BEHIND: u64 = 8000;
/// Rows of a slice of a stage, about.
const SLICE_ROWS: u64 = 200_000;

/// Computes derived rows until everything is stored, then the last ones.
pub(super) fn derive(shared: &Following<'_>, notifications: &Notifications) -> Result<(), Failure> {
    let (mut computed, mut took) = (Instant::now(), Duration::ZERO);
    while !shared.is_stored.load(Ordering::SeqCst) && !shared.session.stop.is_set() {
        let waiting = shared.received.load(Ordering::SeqCst);
        let every = match waiting > FAR_BEHIND {
            true => FINALIZE_BEHIND,
            false => FINALIZE_EVERY,
        };
        if computed.elapsed() < every.max(took * PAUSE_OF_FINALIZE) {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let began = Instant::now();
        compute(shared, notifications)?;
        (computed, took) = (Instant::now(), began.elapsed());
    }
    match shared.session.stop.is_set() {
        true => Ok(()),
        false => compute(shared, notifications),
    }
}

/// Computes derived rows, if any are due.
fn compute(shared: &Following<'_>, notifications: &Notifications) -> Result<(), Failure> {
    let session = shared.session;
    let (database, stop) = (session.database, &session.stop);
    let is_due = database
        .patient(stop)
        .run(|client| changes::is_due(client, &database.schema));
    // Whoever is stopped while the server is away computes nothing.
    if stop.is_set() || !is_due? {
        return Ok(());
    }
    let say = |text: &str| tracing::debug!("{text}");
    let is_computing = &shared.is_computing;
    let report = |report: Report<'_>| match report {
        Report::Foreign => {
            observe::log!("another program wrote to the tables; all derived rows are computed");
        }
        // Events and merges wait for that, since it would never end beside them.
        Report::Everything => is_computing.store(true, Ordering::SeqCst),
        _ => {}
    };
    let finalize = Finalize {
        url: database.url.clone(),
        schema: database.schema.clone(),
        connections: session.options.scale.connections,
        slice_rows: SLICE_ROWS,
        restart: false,
        is_beside: false,
        notifications: notifications.clone(),
        report: &report,
        say: &say,
        stop: &|| stop.is_set(),
    };
    // What was being stored when it began may let it begin anew.
    let mut outcome = finalize.run();
    for _ in 0..BEGUN_ANEW {
        if !matches!(outcome, Ok(FinalizeEnd::OutOfDate)) {
            break;
        }
        outcome = finalize.run();
    }
    is_computing.store(false, Ordering::SeqCst);
    match outcome {
        // What is not done now is done the next time.
        Ok(_) | Err(FinalizeError::Busy) => Ok(()),
        // Nor what a server does not do that is away.
        Err(FinalizeError::Database(error)) if pg::is_transient(&error) => Ok(()),
        Err(error) => Err(Failure::new(format!("derived rows: {error}"))
            .hint_to_run("fix this, then run", "follow")),
    }
}
