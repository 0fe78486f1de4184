//! Comparisons of the tables with the signed commits, and what is done about differences.
//!
//! [`verify()`] compares all accounts or some, checks signatures if that is asked for, writes the
//! certificate, and marks what differs to be fetched again. A run ends with the same comparison.

mod compare;
mod keys;

pub(crate) use compare::after_run;
pub use compare::{Comparison, Options, Repaired, Verified, verify};
