//! Connections to PostgreSQL, for the whole product: what they are made of ([`Settings`]), how one
//! is made and used again ([`connect`], [`Connection`]), what an error means for whoever meets it
//! ([`decide`]), and how the server is waited for ([`persist`], [`Persistent`]).
//!
//! Nothing else in skyfill connects to a database, so that every session has the settings that
//! skyfill's statements rely on, notices a peer that vanished, and is named in `pg_stat_activity`.

mod cancel;
mod connect;
mod connection;
mod error;
mod pooler;
mod settings;
mod tls;
mod tls_error;
mod wait;

pub use cancel::cancel_all;
pub use connect::{SESSION, name_process, search_path, shown};
pub use connection::{Connection, connect, idle_connections};
pub use error::{DbError, DbErrorKind, Decision, decide, is_transient};
pub use pooler::require_sessions;
pub use settings::{Server, Settings, SslMode};
pub use wait::{Halt, Persistent, Step, Waits, persist};
