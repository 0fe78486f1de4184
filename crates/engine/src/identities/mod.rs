//! Account look-ups: the DID document and the handle of each loaded account, and the table `actor`.
//!
//! [`look_up`] goes over the accounts that are due once, in the order of DIDs. Documents and
//! handles of a batch are requested concurrently, then stored in one transaction. Stored results
//! are not requested again, so a stop costs at most a batch. [`prove`] then judges the repos that
//! were stored before their documents were known.
//!
//! Handles of many accounts are stored as claimed first and verified later, beside an AppView that
//! serves (`claims`). The rows at the end are those that verifying them at once would have given.

mod bulk;
mod claims;
mod learned;
mod lookup;
mod options;
mod summary;
mod turns;

pub(crate) use bulk::Beside;
pub use bulk::{Bulk, Documents, MANY};
pub use lookup::{LookUp, look_up, prove};
pub(crate) use lookup::{export_from, look_up_due, look_up_handles};
pub use options::{HandleMode, Options};
pub use summary::{RETRIED_LATER, Summary};
