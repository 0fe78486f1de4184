//! Computes the derived rows, which need rows of other repos: flags of posts, notifications of
//! quotes and replies, counts.
//!
//! The rules are those of the official indexer, for the whole set in the canonical order
//! (`data-plane/server/indexing/plugins/post.ts`, `util.ts`). They are computed from the AppView's
//! tables alone, in set-based SQL, one file per stage in `sql/`. A stage has one statement and two
//! extents: everything, or what depends on the changes that loads noted ([`ledger::changes`]). It
//! is cut into slices. Each slice is a transaction that also marks the slice as done, so that the
//! next start continues, whatever stopped finalize. Every stage writes only what differs, so a
//! second run changes nothing, and flags of an earlier, smaller load heal.
//!
//! Work tables in schema `skyfill` carry rows from stage to stage. What finalize keeps for the next
//! time, to find what a change concerns, is in the tables `derived_*`.

mod run;
mod slicing;
mod stage;
mod work_tables;

pub use run::{Finalize, FinalizeEnd, FinalizeError, Report};
pub use stage::{Extent, Stage};
