//! The ledger on a real server: what each statement makes of each state.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod behind;
mod claims;
mod columns;
mod history;
mod leases;
mod lists;
mod pages;
mod parts;
mod plans;
mod repos;
mod schema;
mod support;
mod workers;
