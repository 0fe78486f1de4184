//! The proof that nothing is missing: tables against signed commits.
//!
//! Repos are compared in slices (`slices`), each in one snapshot. The rows of a slice are read
//! table by table, in the order of URIs (`ordered_rows`), and gone through side by side
//! (`compare_slice`). For each repo (`compare_repo`), the root of its tree is computed again from
//! `record` and the ledger's list of skipped records (`tree`), and the JSON of each record is
//! turned back into DAG-CBOR and compared with its CID. The rows that follow from the record alone
//! are made again and compared with what is stored (`record_rows`); what does not follow from
//! records are times and settings of runs (`run_settings`). Rows that belong to no record come by
//! between the others (`stray_rows`), or are looked for at the end (`stray_search`). Nothing is
//! changed here.

pub mod audit;
mod compare_repo;
mod compare_slice;
mod finding;
mod ordered_rows;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod plans;
pub mod record;
mod record_rows;
mod report;
mod repos;
mod run_settings;
mod slices;
mod stray_rows;
mod stray_search;
mod tree;
pub mod verdict;

pub use finding::{Finding, What};
pub use record_rows::Facts;
pub use report::{HostCounts, Report};
pub use repos::Verify;
