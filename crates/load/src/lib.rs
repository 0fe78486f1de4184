//! Rows into the AppView's tables, repo by repo.
//!
//! An [`Encoder`] turns checked repos into chunks of rows in PostgreSQL's binary COPY format.
//! [`loading`] is the threads with a connection each; a [`Loader`] stores a chunk in one transaction,
//! fresh ([`fresh`]) or beside rows that are there (`replace`). Which table a row belongs to, and in
//! which columns, is the crate `appview`'s; what rows a record has is the crate `rows`'s. Lines of
//! the original scripts are stored by the crate `consumer`, with the temporary tables of
//! [`staging`].

mod accounts;
pub mod actors;
mod choice;
mod chunk;
pub mod copy;
pub mod fresh;
pub mod indexes;
mod inherited;
mod loader;
pub mod loading;
mod owned;
mod remove;
mod replace;
mod repo_rows;
pub mod revs;
pub mod staging;
mod unique_keys;

pub use accounts::{Accounts, store_states};
pub use choice::{Choice, Notifications};
pub use chunk::{Chunk, LoadedRepo, PartOf};
pub use loader::{LoadError, Loader, LoaderOptions};
pub use owned::indexed_owner;
pub use pg::{DbError, DbErrorKind, Decision, decide};
pub use remove::Remover;
pub use repo_rows::{Costs, EncodeError, Encoder, HandOn, Origin, Probe};
pub use staging::{RELATIONAL_REASONS, copy_rows, own_table};
