//! The threads on which a command waits for the network.

use crate::exit::Failure;
use tokio::runtime::{Builder, Runtime};

/// Starts them.
pub(crate) fn start() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("start threads: {error}")))
}
