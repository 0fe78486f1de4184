//! Which folder a cluster lives in, and the lock files in it.

use crate::PgBoxError;
use crate::account::Account;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// The folder that is really used.
pub(crate) struct Folder {
    /// Absolute.
    pub(crate) base: PathBuf,
    pub(crate) account: Account,
    /// Said to the user when it is not the folder that was asked for.
    pub(crate) notice: Option<String>,
}

impl Folder {
    /// `wanted`, or a folder under /var/lib that is always the same for it, where the unprivileged user cannot reach `wanted`.
    pub(crate) fn open(wanted: &Path) -> Result<Self, PgBoxError> {
        let wanted = std::path::absolute(wanted).map_err(PgBoxError::io("find the working folder"))?;
        let account = Account::choose(&wanted.join("pg"))?;
        if account.can_enter(&wanted) {
            return Ok(Self {
                base: wanted,
                account,
                notice: None,
            });
        }
        let base = PathBuf::from(format!("/var/lib/skyfill/{:08x}", fingerprint(&wanted)));
        let account = Account::choose(&base.join("pg"))?;
        let notice = format!(
            "PostgreSQL runs as {}, which cannot reach {}: its data is in {} instead",
            account.name,
            wanted.display(),
            base.display()
        );
        Ok(Self {
            base,
            account,
            notice: Some(notice),
        })
    }

    /// Where the cluster itself is.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.base.join("pg")
    }

    /// Makes the folder.
    pub(crate) fn make(&self) -> Result<(), PgBoxError> {
        fs::create_dir_all(&self.base).map_err(PgBoxError::io(format!("make {}", self.base.display())))?;
        let cluster = self.cluster();
        if !cluster.exists() {
            crate::socket::make_private(&cluster, self.account.uid, self.account.gid)?;
        }
        Ok(())
    }

    /// Opens a lock file; the lock itself is the caller's.
    pub(crate) fn lock_file(&self, name: &str) -> Result<File, PgBoxError> {
        let path = self.base.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(PgBoxError::io(format!("open {}", path.display())))?;
        if self.account.drop_root {
            // So that the same user can work with the folder without root later; a lock does not depend on it.
            drop(chown(&path, Some(self.account.uid), Some(self.account.gid)));
        }
        Ok(file)
    }
}

/// A short name for a path (FNV-1a), so that other folders made for it are always the same.
pub(crate) fn fingerprint(path: &Path) -> u32 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
}
