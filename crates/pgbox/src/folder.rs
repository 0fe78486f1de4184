//! Chooses the folder of a cluster, and opens the lock files in it.

use crate::PgBoxError;
use crate::account::Account;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Flag to open files without following links, for folders that belong to another user.
pub(crate) const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// Flag to open a pipe without waiting for its writer; what was opened is examined first.
pub(crate) const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// The folder that is used.
pub(crate) struct Folder {
    /// Absolute.
    pub(crate) base: PathBuf,
    pub(crate) account: Account,
    /// Message for the user if it is not the requested folder.
    pub(crate) notice: Option<String>,
}

impl Folder {
    /// `wanted`, or, if the unprivileged user cannot reach that, a folder under /var/lib that is
    /// always the same for `wanted`.
    pub(crate) fn open(wanted: &Path) -> Result<Self, PgBoxError> {
        let wanted =
            std::path::absolute(wanted).map_err(PgBoxError::io("find the working folder"))?;
        // Links are resolved, so that a folder has one path.
        let wanted = wanted.canonicalize().unwrap_or(wanted);
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

    /// The folder of the cluster itself.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.base.join("pg")
    }

    /// Creates the folder.
    pub(crate) fn make(&self) -> Result<(), PgBoxError> {
        let missing: Vec<&Path> = self
            .base
            .ancestors()
            .take_while(|folder| !folder.exists())
            .collect();
        for folder in missing.into_iter().rev() {
            fs::create_dir(folder)
                .or_else(|error| {
                    if error.kind() == ErrorKind::AlreadyExists {
                        Ok(())
                    } else {
                        Err(error)
                    }
                })
                .map_err(PgBoxError::io(format!("make {}", folder.display())))?;
            if self.account.drop_root {
                // The other user must be able to enter, whatever the umask is.
                fs::set_permissions(folder, Permissions::from_mode(0o755))
                    .map_err(PgBoxError::io(format!("open {}", folder.display())))?;
            }
        }
        Ok(())
    }

    /// Opens a lock file; the caller takes the lock.
    pub(crate) fn lock_file(&self, name: &str) -> Result<File, PgBoxError> {
        let path = self.base.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            // Somebody else may own the folder, so links are not followed.
            .custom_flags(NOFOLLOW)
            .open(&path)
            .map_err(PgBoxError::io(format!("open {}", path.display())))?;
        if self.account.drop_root {
            // So that the user can use the folder without root later; the lock does not depend on
            // it.
            drop(fchown(
                &file,
                Some(self.account.uid),
                Some(self.account.gid),
            ));
        }
        Ok(file)
    }
}

/// A short name for a path (FNV-1a), so that the substitute folder of a path is always the same.
pub(crate) fn fingerprint(path: &Path) -> u32 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
}
