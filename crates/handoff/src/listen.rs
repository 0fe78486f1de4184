//! The consumer's end: a unix socket that this process owns, whatever a dead consumer left behind.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a socket cannot be listened on.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListenError {
    /// The path is too long, see [`pgbox::socket::check_path`].
    Path(pgbox::PgBoxError),
    /// A consumer listens there already.
    InUse(PathBuf),
    /// The path exists and is not a socket.
    NotASocket(PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(error) => write!(f, "{error}"),
            Self::InUse(path) => write!(
                f,
                "a consumer already listens on {}; end it first, or choose another path",
                path.display()
            ),
            Self::NotASocket(path) => {
                write!(
                    f,
                    "{} exists and is not a socket; move it away or choose another path",
                    path.display()
                )
            }
            Self::Io(path, error) => write!(f, "listen on {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for ListenError {}

/// A listening socket. Its file is removed with the value.
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, so that only our own file is removed in the end.
    identity: Option<(u64, u64)>,
    /// Held while listening: if two consumers find a dead socket at the same time, one replaces it.
    _lock: File,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .map(|found| (found.dev(), found.ino()))
}

impl Listener {
    /// Listens on `path`. Replaces a socket file on which nobody listens.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn bind(path: &Path) -> Result<Self, ListenError> {
        pgbox::socket::check_path(path).map_err(ListenError::Path)?;
        let failed = |error| ListenError::Io(path.to_owned(), error);
        let mut lock_path = path.as_os_str().to_owned();
        lock_path.push(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            // Others may write into the folder, so links are not followed.
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(lock_path)
            .map_err(failed)?;
        lock.try_lock()
            .map_err(|_| ListenError::InUse(path.to_owned()))?;
        if let Ok(found) = fs::symlink_metadata(path) {
            if !found.file_type().is_socket() {
                return Err(ListenError::NotASocket(path.to_owned()));
            }
            match UnixStream::connect(path) {
                Ok(_) => return Err(ListenError::InUse(path.to_owned())),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed)?;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            identity: identity(path),
            _lock: lock,
        })
    }

    /// The next connection; `None` if there was none within `wait`.
    ///
    /// # Errors
    /// The system refused.
    pub fn accept(&self, wait: Duration) -> io::Result<Option<UnixStream>> {
        let mut polled = [PollFd::new(&self.listener, PollFlags::IN)];
        match poll(
            &mut polled,
            Some(&Timespec::try_from(wait).map_err(io::Error::other)?),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(stream))
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::ConnectionAborted
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if identity(&self.path) == self.identity {
            // The file may be gone already.
            drop(fs::remove_file(&self.path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_place_of_the_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("s"), dir.path().join("elsewhere"));
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("s.lock")).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::Io(..))));
        assert!(!elsewhere.exists() && !path.exists());
    }

    #[test]
    fn a_dead_socket_file_is_replaced_a_live_one_is_not_and_no_file_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let live = Listener::bind(&path).unwrap();
        assert!(matches!(Listener::bind(&path), Err(ListenError::InUse(_))));
        drop(live);
        assert!(!path.exists());
        // A listener that died leaves its file.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listener::bind(&path).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(
            Listener::bind(&path),
            Err(ListenError::NotASocket(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let long = dir.path().join("x".repeat(120));
        assert!(matches!(Listener::bind(&long), Err(ListenError::Path(_))));
    }
}
