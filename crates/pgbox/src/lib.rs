//! A private PostgreSQL in a folder, for users without a server and for the tests.
//!
//! [`start`] finds PostgreSQL's binaries, creates a cluster on first use, and starts it or adopts
//! the one that is running. The server listens only on a unix socket in a private folder.
//! PostgreSQL refuses to run as root, so for root its programs run as an unprivileged user, by
//! setuid. The server outlives the command that started it, as a service would; [`stop`] ends it.
//!
//! PostgreSQL alone judges its `postmaster.pid`. skyfill's own lock files only separate two
//! concurrent starts (`lock`) and show whether the server is in use (`users`).

mod account;
mod binaries;
mod cluster;
mod error;
mod folder;
mod server;
pub mod socket;

pub use error::PgBoxError;
pub use server::{Server, is_made, start, start_with, status, stop};
