//! How the load of an account should end.

/// What a complete and correct backfill ends with for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expected {
    /// Its repo is loaded, as [`crate::Network::car`] has it.
    Loaded,
    /// It is `deactivated`, `suspended`, `takendown` or `deleted`.
    State(&'static str),
    /// Its repo cannot be had.
    Failed,
    /// Its repo is so odd that a client may load it, as [`crate::Network::car`] has it, or refuse
    /// it.
    LoadedOrFailed,
}
