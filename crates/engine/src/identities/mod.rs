//! Account look-ups: the DID document and the handle of each loaded account, and the table `actor`.
//!
//! [`look_up`] goes over the accounts that are due once, in the order of DIDs. Documents and
//! handles of a batch are requested concurrently, then stored in one transaction. Stored results
//! are not requested again, so a stop costs at most a batch. [`prove`] then judges the repos that
//! were stored before their documents were known.

mod bulk;
mod lookup;
mod summary;

pub(crate) use bulk::Beside;
pub use bulk::{Bulk, Documents};
pub(crate) use lookup::export_from;
pub use lookup::{HandleMode, LookUp, Options, look_up, prove};
pub use summary::{RETRIED_LATER, Summary};
