//! What tests stand on: a real PostgreSQL shared by all of them, practice networks, the real binary
//! and its processes, comparisons of tables.
//!
//! | room | what |
//! |---|---|
//! | `database` | the tests' PostgreSQL, and a database for each test |
//! | `comparison` | tables as sorted JSON, and what differs between two of them |
//! | `network` | repos on a loopback PDS, with documents and handles; repos some time later |
//! | `namespaces` | machines of a network, each with an address, which can be cut off |
//! | `nats` | a NATS server with JetStream, or a cluster |
//! | `browser` | a headless Chromium |
//! | `objects` | an object store, and the way to it, which can be cut |
//! | `command` | the commands that most tests run, and what they printed |
//! | `process` | commands that run beside a test: waiting for what they print, signals, memory |
//! | `sized` | tables that the planner takes for large, and the plans of a session |
//! | `waiting` | waiting for what sends no event |
//! | `material` | files that tests compare with, in the crate and at `../shared` |
//!
//! Everything here panics with the reason when it fails: a test that cannot go on has failed.

#![allow(clippy::missing_panics_doc, reason = "see above: all of them do")]

mod browser;
mod command;
mod comparison;
mod database;
mod material;
mod namespaces;
mod nats;
mod network;
mod objects;
pub mod pages;
mod process;
mod sized;
mod waiting;

pub use browser::Browser;
pub use command::{
    NOW, binary, clean, did_file, finalize, finalize_in_slices, producer, run_load, run_well,
    skyfill, summary, told,
};
pub use comparison::{canonical, difference, dump_of};
pub use database::{TestDb, cluster_folder};
pub use material::{material, shared};
pub use namespaces::Machines;
pub use nats::{Nats, StreamMessage};
pub use network::{Net, dns, later, records_of};
pub use objects::ObjectStore;
pub use process::{Consumer, Watched, cpu_seconds, peak_kib, send_lines, send_signal, signal};
pub use sized::{Planned, WholeRead, pretend_rows};
pub use waiting::wait_until;

/// A folder for one test that the server's user can reach, too.
#[must_use]
pub fn folder() -> tempfile::TempDir {
    opened(tempfile::tempdir().expect("a temporary folder"))
}

/// Lets the server's user in.
fn opened(dir: tempfile::TempDir) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).expect("open the folder");
    dir
}
