//! What a load is going to take, before it begins: calculated from the number of pending repos and
//! from what was measured (docs/how-to/full-network.md says where each figure comes from).

use ledger::repos::Pending;
use observe::printable;

/// Records of an average repo: 20 billion in 45 million repos.
const RECORDS_PER_REPO: u64 = 444;
/// Bytes of heap and index per record.
const BYTES_PER_RECORD: u64 = 1205 + 848;
/// CPU of PostgreSQL and skyfill per record, over all phases.
const MICROS_PER_RECORD: u64 = 75;
/// Requests per second that a host of Bluesky's answers.
const HOST_RATE: u64 = 10;

/// What a load is going to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Estimate {
    /// Pending repos.
    pub(crate) repos: u64,
    /// Records, if the repos are average ones.
    pub(crate) records: u64,
    /// Disk for tables and indexes, in bytes.
    pub(crate) bytes: u64,
    /// Seconds that the fullest host needs.
    pub(crate) fetch: u64,
    /// Seconds of CPU, over all cores.
    pub(crate) cpu: u64,
}

impl Estimate {
    pub(crate) fn of(pending: &Pending) -> Self {
        let records = pending.repos.saturating_mul(RECORDS_PER_REPO);
        Self {
            repos: pending.repos,
            records,
            bytes: records.saturating_mul(BYTES_PER_RECORD),
            fetch: pending.fullest.1.div_ceil(HOST_RATE),
            cpu: records.saturating_mul(MICROS_PER_RECORD) / 1_000_000,
        }
    }
}

/// Logs the estimate; `is_part` is whether only a part of each repo is stored.
pub(crate) fn log(pending: &Pending, is_part: bool) {
    let Estimate {
        repos,
        records,
        bytes,
        fetch,
        cpu,
    } = Estimate::of(pending);
    let most = if is_part { "at most " } else { "" };
    observe::log!(
        "estimate for {repos} repos on {} hosts, if they are average ones: {most}{records} records, {most}{} of disk",
        pending.hosts,
        size(bytes)
    );
    observe::log!(
        "estimate of the time: {} to fetch ({} has {} of them, at 10 requests per second); {} of one core for all phases",
        time(fetch),
        printable(&pending.fullest.0),
        pending.fullest.1,
        time(cpu)
    );
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
        1_000_000_000..10_000_000_000_000 => format!("{} GB", bytes.div_ceil(1_000_000_000)),
        _ => format!("{} TB", bytes.div_ceil(1_000_000_000_000)),
    }
}

fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_network_takes_what_the_guide_says() {
        let pending = Pending {
            repos: 45_000_000,
            hosts: 3200,
            fullest: ("pds.example".to_owned(), 500_000),
        };
        let estimate = Estimate::of(&pending);
        assert_eq!(
            (size(estimate.bytes), time(estimate.fetch)),
            ("42 TB".to_owned(), "14 h".to_owned())
        );
        assert_eq!(time(estimate.cpu), "417 h");
        assert_eq!((size(1), time(7201)), ("1 MB".to_owned(), "3 h".to_owned()));
    }
}
