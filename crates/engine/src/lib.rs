//! The engines of skyfill: what its commands do.
//!
//! Options are plain structs, outcomes are structs and closed enums. Nothing here knows arguments,
//! prints to stdout or picks an exit code; the binary does that. Messages for people go through
//! `observe`. An [`Observer`] informs the caller while the work is running.
//!
//! [`run`] goes the whole path from repos to a database that an AppView can serve from.
//! [`catch_up`] repeats it until an AppView can take over. [`discovery`], [`identities`],
//! [`finalize`] and [`verify`] are its other steps, alone. [`explain`], [`audit`] and [`compare`]
//! answer questions.

pub mod audit;
pub mod catch_up;
pub mod certificate;
pub mod compare;
pub mod did_cache;
pub mod discovery;
mod documents;
pub mod explain;
mod export;
pub mod finalize;
mod fresh_repo;
pub mod identities;
pub mod indexes;
pub mod next;
mod observer;
mod proof;
pub mod recorder;
pub mod recreate;
mod repo_tree;
pub mod run;
pub mod status;
mod trust;
pub mod verify;

pub use documents::Directory;
pub use observer::{Milestone, Observer};
pub use proof::Proved;
