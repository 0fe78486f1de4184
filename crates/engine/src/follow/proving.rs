//! Proves what is stored while the stream is followed, slowly, over and over.
//!
//! It goes round the loaded repos in the order of their DIDs and compares each with its commit, by
//! the code of `verify`, at the rate that the operator sets. Where it is in the round is in the
//! ledger, with the time at which each repo was compared. A repo that differs is fetched and
//! written again by the merge beside the stream.

use super::shared::Following;
use ::verify::{Finding, Verify};
use ledger::follow;
use ledger::verified::{self, Which};
use observe::units::counted;
use pg::{DbErrorKind, Step};
use process::Failure;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Repos that are compared together: those of so many seconds, and at most so many.
const SECONDS: u64 = 2;
const MOST: i64 = 500;
/// A repo counts as so many records more than it has: to look it up takes time, too.
const PER_REPO: u64 = 10;
/// Pause where nothing is loaded, and after a round.
const PAUSE: Duration = Duration::from_secs(1);
/// Findings of one comparison that are logged.
const LOGGED: usize = 10;

/// Compares so many records per second until it is stopped; none if that is 0.
pub(super) fn prove(shared: &Following<'_>, rate: u64) -> Result<(), Failure> {
    let (database, stop) = (shared.session.database, &shared.session.stop);
    let schema = &database.schema;
    let mut client = database.patient(stop);
    while rate > 0 && !shared.is_over() {
        let began = Instant::now();
        let (after, page) = client.run(|client| -> Result<_, postgres::Error> {
            let after = follow::proved_up_to(client, schema)?;
            let page = verified::loaded_after(client, schema, &after, MOST)?;
            Ok((after, page))
        })?;
        let (dids, records) = first(page, rate.saturating_mul(SECONDS));
        let Some(last) = dids.last().cloned() else {
            if !after.is_empty() {
                client.run(|client| follow::note_proved(client, schema, None, 0, &[]))?;
            }
            shared.sleep(PAUSE);
            continue;
        };
        let count = dids.len() as u64;
        let Some(differing) = compare(shared, dids)? else {
            return Ok(());
        };
        client.run(|client| follow::note_proved(client, schema, Some(&last), count, &differing))?;
        shared.proved.add(count);
        shared.differing.add(differing.len() as u64);
        shared.sleep(pause(records, rate).saturating_sub(began.elapsed()));
    }
    Ok(())
}

/// The first repos of a page, until they have so many records, and how many they count as.
fn first(page: Vec<(String, u64)>, most: u64) -> (Vec<String>, u64) {
    let (mut dids, mut records) = (Vec::new(), 0u64);
    for (did, size) in page {
        let size = size.saturating_add(PER_REPO);
        if !dids.is_empty() && records.saturating_add(size) > most {
            break;
        }
        records = records.saturating_add(size);
        dids.push(did);
    }
    (dids, records)
}

/// The time that so many records are to take.
#[allow(clippy::cast_precision_loss)]
fn pause(records: u64, rate: u64) -> Duration {
    Duration::try_from_secs_f64(records as f64 / rate as f64).unwrap_or(PAUSE)
}

/// Compares repos; those that differ, or nothing if it was stopped.
fn compare(shared: &Following<'_>, dids: Vec<String>) -> Result<Option<Vec<String>>, Failure> {
    let (database, stop) = (shared.session.database, &shared.session.stop);
    let which = Which::Named(dids);
    let found = Mutex::new(Vec::new());
    let finding = |finding: &Finding| {
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        if finding.is_difference() && found.len() < LOGGED {
            found.push(finding.json());
        }
    };
    let compared = pg::persist(Step::Short, stop.waits(), || {
        Verify {
            url: database.url.clone(),
            schema: database.schema.clone(),
            connections: 1,
            which: which.clone(),
            signature: None,
            progress: &|_| {},
            finding: &finding,
            stop: &|| shared.is_over(),
        }
        .run()
    });
    let report = match compared {
        Err(error) if error.kind == DbErrorKind::Stopped => return Ok(None),
        compared => compared.map_err(|error| database.db_failure(&error))?,
    };
    if report.stopped {
        return Ok(None);
    }
    for finding in found.into_inner().unwrap_or_else(PoisonError::into_inner) {
        observe::log!("a difference: {finding}");
    }
    if !report.differing.is_empty() {
        observe::log!(
            "{} in {}; what differs is fetched again",
            counted(report.differences, "difference"),
            counted(report.differing.len() as u64, "repo")
        );
    }
    Ok(Some(report.differing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_large_as_its_time_and_never_empty() {
        let page = |sizes: &[u64]| -> Vec<(String, u64)> {
            let one = |(number, size): (usize, &u64)| (format!("did:plc:{number}"), *size);
            sizes.iter().enumerate().map(one).collect()
        };
        let (dids, records) = first(page(&[90, 190, 5000]), 1000);
        assert_eq!((dids.len(), records), (2, 300));
        let (dids, records) = first(page(&[5000, 1]), 1000);
        assert_eq!((dids.len(), records), (1, 5010));
        assert_eq!(pause(5010, 1000), Duration::from_millis(5010));
        assert!(first(Vec::new(), 1000).0.is_empty());
    }
}
