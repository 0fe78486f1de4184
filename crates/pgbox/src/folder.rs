//! Which folder a cluster lives in, and the lock files in it.

use crate::PgBoxError;
use crate::account::Account;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Links are not followed when files are opened in a folder that is another user's.
pub(crate) const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// What is opened is looked at first: opening a pipe does not wait for its writer.
pub(crate) const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// The folder that is really used.
pub(crate) struct Folder {
    /// Absolute.
    pub(crate) base: PathBuf,
    pub(crate) account: Account,
    /// Said to the user when it is not the folder that was asked for.
    pub(crate) notice: Option<String>,
}

impl Folder {
    /// `wanted`, or a folder under /var/lib that is always the same for it, where the unprivileged
    /// user cannot reach `wanted`.
    pub(crate) fn open(wanted: &Path) -> Result<Self, PgBoxError> {
        let wanted =
            std::path::absolute(wanted).map_err(PgBoxError::io("find the working folder"))?;
        // What is reached by a link lies where the link leads.
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

    /// Where the cluster itself is.
    pub(crate) fn cluster(&self) -> PathBuf {
        self.base.join("pg")
    }

    /// Makes the folder.
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
                // Whatever the umask is, the other user has to come through.
                fs::set_permissions(folder, Permissions::from_mode(0o755))
                    .map_err(PgBoxError::io(format!("open {}", folder.display())))?;
            }
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
            // Somebody else may own the folder: a link there leads nowhere.
            .custom_flags(NOFOLLOW)
            .open(&path)
            .map_err(PgBoxError::io(format!("open {}", path.display())))?;
        if self.account.drop_root {
            // So that the same user can work with the folder without root later; a lock does not
            // depend on it.
            drop(fchown(
                &file,
                Some(self.account.uid),
                Some(self.account.gid),
            ));
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
