//! Unix socket paths: the kernel's limit, and folders that nobody else can enter.

use crate::error::{MAX_PATH, PgBoxError};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

/// Name of PostgreSQL's socket for the port that pgbox uses.
const SOCKET_NAME: &str = ".s.PGSQL.5432.lock";

/// Checks the length of a socket path that a user gave.
///
/// # Errors
/// The path is too long.
pub fn check_path(path: &Path) -> Result<(), PgBoxError> {
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(PgBoxError::SocketPath {
            path: path.to_owned(),
            length,
        });
    }
    Ok(())
}

/// The private folder for the server's socket: `run` in the cluster's folder, or one in /tmp if
/// that path is too long.
pub(crate) fn folder(base: &Path, uid: u32) -> PathBuf {
    let inside = base.join("run");
    if check_path(&inside.join(SOCKET_NAME)).is_ok() {
        return inside;
    }
    PathBuf::from(format!(
        "/tmp/skyfill-{uid}-{:08x}",
        crate::folder::fingerprint(base)
    ))
}

/// Creates `folder` if it does not exist, and checks that it belongs to `uid` alone.
pub(crate) fn make_private(folder: &Path, uid: u32, gid: u32) -> Result<(), PgBoxError> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {
            if fs::metadata(folder).is_ok_and(|m| m.uid() != uid) {
                chown(folder, Some(uid), Some(gid)).map_err(PgBoxError::io(format!(
                    "give {} to user {uid}",
                    folder.display()
                )))?;
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(PgBoxError::io(format!("make {}", folder.display()))(error)),
    }
    let found = fs::symlink_metadata(folder)
        .map_err(PgBoxError::io(format!("look at {}", folder.display())))?;
    let why = if !found.is_dir() {
        "is not a folder".to_owned()
    } else if found.uid() != uid {
        format!(
            "belongs to user {}, not {uid}; remove it or choose another place",
            found.uid()
        )
    } else if found.mode() & 0o077 != 0 {
        format!(
            "is open to others (mode {:o}); chmod 700 it",
            found.mode() & 0o777
        )
    } else {
        return Ok(());
    };
    Err(PgBoxError::Folder {
        path: folder.to_owned(),
        why,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_long_path_is_refused_and_replaced() {
        let long = PathBuf::from(format!("/{}", "x".repeat(110)));
        assert!(matches!(
            check_path(&long),
            Err(PgBoxError::SocketPath { length: 111, .. })
        ));
        assert!(folder(&long, 7).starts_with("/tmp"));
        assert_eq!(folder(Path::new("/data"), 7), Path::new("/data/run"));
    }

    #[test]
    fn a_folder_open_to_others_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = (
            rustix::process::getuid().as_raw(),
            rustix::process::getgid().as_raw(),
        );
        let folder = dir.path().join("run");
        make_private(&folder, uid, gid).unwrap();
        make_private(&folder, uid, gid).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            make_private(&folder, uid, gid),
            Err(PgBoxError::Folder { .. })
        ));
        assert!(matches!(
            make_private(&folder, uid + 1, gid),
            Err(PgBoxError::Folder { .. })
        ));
    }
}
