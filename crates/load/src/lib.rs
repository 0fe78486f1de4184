//! Rows into the AppView's tables.
//!
//! A [`Batch`] holds the rows of some records of one collection, already in PostgreSQL's binary
//! COPY format. A [`Writer`] owns one connection, copies batches into temporary tables, merges them
//! into the real ones, and keeps what is not committed so that it can write it again when the
//! connection is lost. Which table a row belongs to, and in which columns, is the crate
//! `appview`'s; what rows a record has is the crate `rows`'s.

mod accounts;
pub mod actors;
mod batch;
mod choice;
mod chunk;
mod copy;
pub mod driver;
pub mod fresh;
pub mod indexes;
mod inherited;
pub mod insert_test;
mod loader;
pub mod loading;
mod merge;
mod owned;
mod remove;
mod replace;
mod repo_rows;
pub mod revs;
mod unique_keys;
mod writer;

pub use accounts::{Accounts, store_states};
pub use batch::Batch;
pub use choice::{Choice, Notifications};
pub use chunk::{Chunk, LoadedRepo, PartOf};
pub use driver::{DbError, DbErrorKind, Driver, DriverKind};
pub use loader::{LoadError, Loader, LoaderOptions};
pub use merge::{RELATIONAL_REASONS, copy_rows, own_table};
pub use owned::indexed_owner;
pub use pg::{Decision, decide};
pub use remove::Remover;
pub use repo_rows::{Costs, EncodeError, Encoder, HandOn, Origin, Probe};
pub use writer::{Refused, Writer, WriterOptions, WriterReport};
