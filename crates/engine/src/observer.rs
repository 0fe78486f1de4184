//! The interface through which a caller is informed while the work is running.

use process::Failure;
use verify::Finding;

/// Something that is in the ledger from now on: whoever goes on later need not ask for it
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// What was asked for goes with what is in the database. Nothing was changed yet.
    Accepted,
    /// The repos that were named are pending.
    ReposAdded,
    /// Discovery has ended, if it was asked for.
    Discovered,
    /// Repos that failed are pending again, if that was asked for.
    FailuresReopened,
    /// A run continues or has begun, as it was asked for.
    RunBegun {
        /// Whether it is a new one: what went with the run before it is forgotten.
        is_new: bool,
    },
    /// The accounts that are to be looked up are marked.
    AccountsMarked,
}

/// Whoever has work done.
pub trait Observer: Sync {
    /// A milestone was reached.
    ///
    /// # Errors
    /// What keeps the caller from going on; the work ends with it.
    fn reached(&self, milestone: Milestone) -> Result<(), Failure>;

    /// A comparison found something. Threads report as they find it.
    fn found(&self, finding: &Finding);
}
