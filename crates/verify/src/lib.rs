//! The proof that nothing is missing: tables against signed commits.
//!
//! For each repo, in the order of DIDs and with bounded memory: the root of its tree is computed
//! again from `record` and the ledger's list of skipped records (`tree`); the JSON of each record
//! is turned back into DAG-CBOR and compared with its CID; the rows that follow from the record
//! alone are made again and compared with what is stored (`pure`). At the end, rows that belong
//! to no record are looked for (`strays`). Nothing is changed here.

pub mod audit;
mod finding;
mod pure;
pub mod record;
mod repos;
mod strays;
mod tree;
pub mod verdict;

pub use finding::{Finding, What};
pub use pure::Facts;
pub use repos::{HostCounts, Report, Verify};
