//! A private PostgreSQL in a folder, for users who have none at hand and for the tests.
//!
//! [`start`] finds PostgreSQL's binaries, makes a cluster on first use, starts it, or adopts the
//! one that runs already. It listens on a unix socket in a private folder only. PostgreSQL refuses
//! to run as root, so as root its programs run as an unprivileged user, by setuid. The server
//! outlives the command that started it, as a service would; [`stop`] ends it.
//!
//! PostgreSQL alone judges its `postmaster.pid`; skyfill's own lock files only keep two starts
//! apart (`lock`) and tell whether somebody works with the server (`users`).

mod account;
mod binaries;
mod cluster;
mod error;
mod folder;
mod server;
pub mod socket;

pub use error::PgBoxError;
pub use server::{Server, is_made, start, start_with, status, stop};
