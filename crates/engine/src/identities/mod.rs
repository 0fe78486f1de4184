//! Account look-ups: the DID document and the handle of each loaded account, and the table `actor`.
//!
//! [`look_up`] goes once over the accounts that are due, in the order of DIDs, in batches: documents
//! and handles of a batch are asked for at once, then stored in one transaction. What is stored is
//! not asked for again, so stopping at any moment costs a batch. [`prove`] then judges the repos
//! that were stored before their documents were known.

mod lookup;
mod summary;

pub(crate) use lookup::export_from;
pub use lookup::{HandleMode, LookUp, Options, look_up, prove};
pub use summary::{RETRIED_LATER, Summary};
