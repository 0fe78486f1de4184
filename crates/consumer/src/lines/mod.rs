//! The line form, which is compatible with the original scripts.
//!
//! One thread per producer reads lines and fills batches (`reader`). One thread per database
//! connection stores them (`shards`); records that can collide go to the same connection. A
//! [`Writer`] owns such a connection. It copies a [`Batch`] into temporary tables, merges it into
//! the real ones (`merge`), and keeps what is not committed, so that it can write it again if the
//! connection is lost. Only this module uses both [`driver`]s. [`insert_test`] is `--db-test`.

mod batch;
pub mod driver;
pub mod insert_test;
mod merge;
pub(crate) mod reader;
pub(crate) mod rejects;
pub(crate) mod shards;
pub(crate) mod writer;

pub use batch::Batch;
pub use writer::{Refused, Writer, WriterOptions, WriterReport};
