//! The engines of skyfill: what its commands do.
//!
//! Options are plain structs, outcomes are structs and closed enums. Nothing here knows arguments,
//! prints to stdout or picks an exit code; the binary does that. Messages for people go through
//! `observe`. An [`Observer`] informs the caller while the work is running.
//!
//! [`run`] goes the whole path from repos to a database that an AppView can serve from.
//! [`catch_up`] repeats it until an AppView can take over. [`follow`] keeps the tables up to date
//! by the event stream. [`discovery`], [`identities`], [`finalize`] and [`verify`] are its other
//! steps, alone. [`repair`] loads single accounts beside another indexer. [`planning`] says what a
//! load is going to take; [`explain`], [`audit`] and [`compare`] answer other questions.
//! [`archives`] proves, merges and prunes archives of CARs.

pub mod archives;
pub mod audit;
pub mod catch_up;
pub mod certificate;
pub mod compare;
pub mod did_cache;
pub mod discovery;
mod documents;
pub mod estimates;
pub mod explain;
pub mod finalize;
pub mod follow;
mod fresh_repo;
mod fresh_repos;
pub mod identities;
pub mod indexes;
pub mod migrate;
pub mod next;
mod observer;
pub mod planning;
mod plc_export;
mod proof;
pub mod recorder;
mod recreate;
pub mod repair;
mod repo_tree;
pub mod run;
mod silence;
pub mod status;
mod trust;
pub mod verify;

pub use documents::Directory;
pub use observer::{Milestone, Observer};
pub use proof::Proved;
pub use recreate::Consent;
