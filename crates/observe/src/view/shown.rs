//! What every view shows.

use super::rates::Rates;
use crate::limits::Limit;
use crate::registry::Snapshot;

/// What is shown: the registry, how fast its counters grow, and what limits.
pub(crate) struct Shown {
    pub(crate) snapshot: Snapshot,
    pub(crate) rates: Rates,
    pub(crate) limit: Option<Limit>,
}
