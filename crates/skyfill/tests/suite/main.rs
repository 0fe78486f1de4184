//! The commands from outside: the real binary, a real PostgreSQL, real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stderr, reason = "cargo shows what a test prints")]

mod beside;
mod browser;
mod changes;
mod chaos;
mod conformance;
mod consumer;
mod dashboard;
mod docs;
mod doctor;
mod drift;
mod finalize;
mod first_hour;
mod gates;
mod golden;
mod hostile;
mod hostile_hosts;
mod hosts;
mod identities;
mod indexes;
mod inherited;
mod kill;
mod knots;
mod logging;
mod memory;
mod migrate;
mod mistakes;
mod network;
mod outputs;
mod parts;
mod private_database;
mod probe;
mod producer;
mod questions;
mod report;
mod run;
mod sessions;
mod status;
mod stopping;
mod tls;
mod trust;
mod unpack;
mod verdict;
mod verify;
