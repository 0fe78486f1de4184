//! The rows that need rows of other repos: flags of posts, notifications of quotes and replies,
//! counts.
//!
//! The rules are those of the official indexer, for the whole set in the canonical order
//! (`data-plane/server/indexing/plugins/post.ts`, `util.ts`). They are computed from the AppView's
//! tables alone, in set-based SQL, one file a stage in `sql/`. A stage is cut into slices; each is
//! a transaction that also notes that it is done, so that whatever stops finalize, the next start
//! goes on. Every stage writes only what differs, so a second run changes nothing and flags of an
//! earlier, smaller load heal.
//!
//! What later stages need of earlier ones is in work tables of schema `skyfill`, which go when all
//! is done.

mod run;
mod slicing;
mod stage;

pub use run::{Finalize, FinalizeError, Outcome, Report};
pub use stage::STAGES;
