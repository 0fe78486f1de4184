//! Computes the derived rows of what is stored, again and again, on connections of its own. Events
//! are stored meanwhile, except while everything has to be computed.

use super::LAST_WAIT;
use super::shared::Following;
use ::finalize::{Finalize, FinalizeEnd, FinalizeError, Report};
use ledger::changes;
use load::Notifications;
use process::{Failure, Patient};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Derived rows are computed this often, as long as it keeps up; when it is far behind, more
/// rarely.
const FINALIZE_EVERY: Duration = Duration::from_secs(1);
const FINALIZE_BEHIND: Duration = Duration::from_secs(10);
/// Between two computations there are so many times as long as the last one took, but not more than
/// a minute.
const PAUSE_OF_FINALIZE: u32 = 2;
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// So often all derived rows are begun anew because of what was being stored.
const BEGUN_ANEW: u32 = 10;
/// It is far behind when so many events wait.
const FAR_BEHIND: u64 = 8000;
/// Rows of a slice of a stage, about.
const SLICE_ROWS: u64 = 200_000;

/// Computes derived rows until everything is stored, then the last ones.
pub(super) fn derive(shared: &Following<'_>, notifications: &Notifications) -> Result<(), Failure> {
    let mut client = shared.session.database.patient(&shared.session.stop);
    let (mut computed, mut took) = (Instant::now(), Duration::ZERO);
    while !shared.is_stored.load(Ordering::SeqCst) && !shared.session.stop.is_set() {
        let waiting = shared.received.load(Ordering::SeqCst);
        let every = match waiting > FAR_BEHIND {
            true => FINALIZE_BEHIND,
            false => FINALIZE_EVERY,
        };
        if computed.elapsed() < every.max((took * PAUSE_OF_FINALIZE).min(MOST_PAUSE)) {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let began = Instant::now();
        // What is not done now is done the next time.
        compute(shared, &mut client, notifications, true)?;
        (computed, took) = (Instant::now(), began.elapsed());
    }
    let began = Instant::now();
    while !shared.session.stop.is_set() && !compute(shared, &mut client, notifications, false)? {
        if began.elapsed() > LAST_WAIT {
            return Err(Failure::new(format!(
                "derived rows are behind: for {} s, the server was away, or another process computed them or stored records",
                LAST_WAIT.as_secs()
            ))
            .hint_to_run("wait until that ends, then run", "finalize"));
        }
        shared.sleep(FINALIZE_EVERY);
    }
    Ok(())
}

/// Computes derived rows, if any are due: once, or until nothing is left to compute. Whether that
/// is done.
fn compute(
    shared: &Following<'_>,
    client: &mut Patient<'_>,
    notifications: &Notifications,
    is_once: bool,
) -> Result<bool, Failure> {
    let session = shared.session;
    let (database, stop) = (session.database, &session.stop);
    let is_due = client.run(|client| changes::is_due(client, &database.schema));
    // Whoever is stopped while the server is away computes nothing.
    if stop.is_set() || !is_due? {
        return Ok(true);
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
        is_once,
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
        Ok(FinalizeEnd::Done) => Ok(true),
        Ok(FinalizeEnd::Stopped | FinalizeEnd::OutOfDate) | Err(FinalizeError::Busy) => Ok(false),
        // Nor is it done while the server is away.
        Err(FinalizeError::Database(error)) if pg::is_transient(&error) => Ok(false),
        Err(error) => Err(Failure::new(format!("derived rows: {error}"))
            .hint_to_run("fix this, then run", "follow")),
    }
}
