//! Comparisons of the tables with the signed commits, and the repair of differences.
//!
//! [`verify()`] compares all accounts or some, checks signatures if asked to, writes the
//! certificate, and marks repos that differ to be fetched again. A run ends with the same
//! comparison.

mod compare;
mod keys;

pub(crate) use compare::MOST_THREADS;
pub(crate) use compare::after_run;
pub use compare::{Comparison, Options, Repaired, Verified, verify};
