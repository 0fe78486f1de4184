//! Stores rows in the AppView's tables, repo by repo.
//!
//! An [`Encoder`] turns checked repos into chunks of rows in PostgreSQL's binary COPY format.
//! [`loading`] runs one thread per connection. A [`Loader`] stores a chunk in one transaction: into
//! empty tables ([`fresh`]), or merged with existing rows (`replace`). [`live`] applies single
//! commits. The crate `appview` knows
//! tables and columns, the crate `rows` the rows of a record. The crate `consumer` stores the lines
//! of the original scripts, with the temporary tables of [`staging`].

mod accounts;
pub mod actors;
mod beside;
mod choice;
mod chunk;
pub mod copy;
mod differing;
mod encode_repo;
pub mod freeze;
pub mod fresh;
pub mod indexes;
mod inherited;
pub mod live;
mod loader;
pub mod loading;
mod owned;
mod remove;
mod replace;
pub mod revs;
mod skipping;
mod staged;
pub mod staging;
mod unique_keys;

pub use accounts::{Accounts, hold_actor, store_states};
pub use choice::{Choice, Notifications, parse_since};
pub use chunk::{Chunk, LoadedRepo, PartOf};
pub use encode_repo::{Costs, EncodeError, Encoder, HandOn, Origin, Probe};
pub use loader::{LoadError, Loader, LoaderOptions};
pub use owned::{indexed_owner, sorts_by_bytes};
pub use pg::{DbError, DbErrorKind, Decision, decide};
pub use remove::Remover;
pub use replace::Rewritten;
pub use skipping::{Taken, taken};
pub use staging::{RELATIONAL_REASONS, copy_rows};
