//! Repos that were fetched to find accounts, kept for the load.

use archive::Archive;
use std::sync::Arc;
use tempfile::TempDir;

/// Repos that were fetched before the load.
pub(crate) struct Walked {
    pub(crate) archive: Arc<Archive>,
    /// Where they lie, until the command ends.
    _folder: TempDir,
}

impl Walked {
    pub(crate) fn new(archive: Archive, folder: TempDir) -> Self {
        Self {
            archive: Arc::new(archive),
            _folder: folder,
        }
    }
}
