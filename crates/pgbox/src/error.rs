//! Everything that can prevent a private PostgreSQL from running.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Longest socket path that every system accepts, in bytes: macOS allows 104 with the closing zero.
pub(crate) const MAX_PATH: usize = 103;

/// Why there is no server.
#[derive(Debug)]
#[non_exhaustive]
pub enum PgBoxError {
    /// No PostgreSQL server binaries were found.
    NoBinaries,
    /// The folder was created by another major version.
    Version {
        /// The cluster's folder.
        folder: PathBuf,
        /// Major version of the cluster.
        data: String,
        /// Major versions that are installed.
        installed: Vec<String>,
    },
    /// The extension is not among the installed ones.
    NoTrgm {
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Root has no unprivileged user to switch to.
    NoUser,
    /// A folder is not safe to use.
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A socket path is too long for the kernel.
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// A program of PostgreSQL failed.
    Program {
        /// Its name.
        name: &'static str,
        /// What it printed.
        output: String,
    },
    /// Another skyfill uses the server.
    InUse,
    /// A file operation failed.
    Io {
        /// The operation.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The server is running but refuses.
    Db(pg::DbError),
}

impl PgBoxError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl fmt::Display for PgBoxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBinaries => write!(
                f,
                "no PostgreSQL server binaries found in PATH, by PG_CONFIG, or in the usual folders. Install them \
                 (Debian, Ubuntu: apt-get install postgresql; macOS: brew install postgresql) or set BSKY_DB_POSTGRES_URL"
            ),
            Self::Version {
                folder,
                data,
                installed,
            } => write!(
                f,
                "{} was made by PostgreSQL {data}, but the installed version is {}. Install PostgreSQL {data}, or move the folder away",
                folder.display(),
                if installed.is_empty() {
                    "none".to_owned()
                } else {
                    installed.join(", ")
                }
            ),
            Self::NoTrgm { folder } => write!(
                f,
                "PostgreSQL's extension pg_trgm is not in {}. Install the contrib package (Debian: it is in postgresql-NN)",
                folder.display()
            ),
            Self::NoUser => write!(
                f,
                "PostgreSQL refuses to run as root, and there is no other user to run it as: SUDO_UID is not set, and the users postgres and nobody do not exist"
            ),
            Self::Folder { path, why } => write!(f, "folder {}: {why}", path.display()),
            Self::SocketPath { path, length } => write!(
                f,
                "socket path {} has {length} bytes, but the system accepts at most {}: choose a shorter one",
                path.display(),
                MAX_PATH
            ),
            Self::Program { name, output } => write!(f, "{name} failed: {}", output.trim()),
            Self::InUse => write!(
                f,
                "another skyfill uses this PostgreSQL; wait until it has ended"
            ),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::Db(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PgBoxError {}
