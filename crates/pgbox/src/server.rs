//! Starts, adopts and stops the server of a folder.

use crate::PgBoxError;
use crate::account::Account;
use crate::binaries::Binaries;
use crate::cluster;
use crate::folder::Folder;
use crate::socket;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A running server. It keeps running when this value is dropped; while the value exists, [`stop`]
/// refuses.
pub struct Server {
    socket_folder: PathBuf,
    psql: PathBuf,
    notices: Vec<String>,
    postmaster: u32,
    _user: File,
}

/// Name of the superuser and of the database.
const NAME: &str = "skyfill";

impl Server {
    /// URL to connect to.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(NAME)
    }

    /// URL of database `name`.
    #[must_use]
    pub fn url_of(&self, name: &str) -> String {
        let host: String = self
            .socket_folder
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .map(|&b| match b {
                b'/' | b'.' | b'-' | b'_' => char::from(b).to_string(),
                _ if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                _ => format!("%{b:02X}"),
            })
            .collect();
        // The port, so that PGPORT does not lead elsewhere.
        format!("postgresql://{NAME}@/{name}?host={host}&port=5432")
    }

    /// A shell command that opens psql on `schema`.
    #[must_use]
    pub fn psql_line(&self, schema: &str) -> String {
        format!(
            "{} '{}&options=-csearch_path%3D{schema}'",
            self.psql.display(),
            self.url()
        )
    }

    /// Messages for the user: that another folder is used, that a cluster was created.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Process id of the postmaster.
    #[must_use]
    pub fn postmaster(&self) -> u32 {
        self.postmaster
    }
}

/// Starts the server of `folder`, or adopts the one that is running; creates the cluster on first
/// use.
///
/// # Errors
/// See [`PgBoxError`].
pub fn start(folder: &Path) -> Result<Server, PgBoxError> {
    start_with(folder, &[])
}

/// As [`start`], with PostgreSQL settings in addition to skyfill's own, for a server that is not
/// running yet.
///
/// # Errors
/// See [`PgBoxError`].
pub fn start_with(folder: &Path, settings: &[(&str, &str)]) -> Result<Server, PgBoxError> {
    let folder = Folder::open(folder)?;
    folder.make()?;
    let starting = folder.lock_file("lock")?;
    starting.lock().map_err(PgBoxError::io("lock the folder"))?;
    let user = folder.lock_file("users")?;
    user.lock_shared()
        .map_err(PgBoxError::io("lock the folder"))?;
    let cluster = folder.cluster();
    let mut notices: Vec<String> = folder.notice.iter().cloned().collect();
    let version = cluster::version(&folder.account, &cluster)?;
    let binaries = Binaries::find(&cluster, version.as_deref())?;
    binaries.require_trgm()?;
    if version.is_none() {
        // Created under another name, so that an interrupted cluster is never used as a complete
        // one.
        let unfinished = folder.base.join("pg.new");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)
                .map_err(PgBoxError::io(format!("remove {}", unfinished.display())))?;
        }
        socket::make_private(&unfinished, folder.account.uid, folder.account.gid)?;
        cluster::init(&binaries, &folder.account, &unfinished)?;
        fs::rename(&unfinished, &cluster)
            .map_err(PgBoxError::io(format!("make {}", cluster.display())))?;
        notices.push(format!(
            "made a PostgreSQL {} cluster in {}",
            binaries.major,
            cluster.display()
        ));
    }
    if !is_running(&binaries, &folder.account, &cluster)? {
        let sockets = socket::folder(&folder.base, folder.account.uid);
        socket::make_private(&sockets, folder.account.uid, folder.account.gid)?;
        cluster::configure(&folder.account, &cluster, &sockets, settings)?;
        launch(&binaries, &folder.account, &cluster)?;
    }
    let (postmaster, socket_folder) = read_pid_file(&folder.account, &cluster)?;
    let psql = if on_path("psql") {
        PathBuf::from("psql")
    } else {
        binaries.program("psql")
    };
    let server = Server {
        socket_folder,
        psql,
        notices,
        postmaster,
        _user: user,
    };
    make_database(&server)?;
    drop(starting);
    Ok(server)
}

/// Stops the server of `folder`. Returns false if none was running.
///
/// # Errors
/// Another skyfill uses it, or PostgreSQL does not stop.
pub fn stop(folder: &Path) -> Result<bool, PgBoxError> {
    let folder = Folder::open(folder)?;
    let cluster = folder.cluster();
    let Some(version) = cluster::version(&folder.account, &cluster)? else {
        return Ok(false);
    };
    let binaries = Binaries::find(&cluster, Some(&version))?;
    let starting = folder.lock_file("lock")?;
    starting.lock().map_err(PgBoxError::io("lock the folder"))?;
    let users = folder.lock_file("users")?;
    users.try_lock().map_err(|_| PgBoxError::InUse)?;
    if !is_running(&binaries, &folder.account, &cluster)? {
        return Ok(false);
    }
    let mut command = folder.account.command(&binaries.program("pg_ctl"));
    cluster::run(
        "pg_ctl stop",
        command
            .args(["stop", "-w", "-m", "fast", "-D"])
            .arg(&cluster),
    )?;
    Ok(true)
}

/// Whether a cluster exists in `folder`. Nothing is created or started.
///
/// # Errors
/// See [`PgBoxError`].
pub fn is_made(folder: &Path) -> Result<bool, PgBoxError> {
    let folder = Folder::open(folder)?;
    Ok(cluster::version(&folder.account, &folder.cluster())?.is_some())
}

/// The process id of the server of `folder`, if it is running. Nothing is created or started.
///
/// # Errors
/// See [`PgBoxError`].
pub fn status(folder: &Path) -> Result<Option<u32>, PgBoxError> {
    let folder = Folder::open(folder)?;
    let cluster = folder.cluster();
    let Some(version) = cluster::version(&folder.account, &cluster)? else {
        return Ok(None);
    };
    let binaries = Binaries::find(&cluster, Some(&version))?;
    if !is_running(&binaries, &folder.account, &cluster)? {
        return Ok(None);
    }
    Ok(Some(read_pid_file(&folder.account, &cluster)?.0))
}

/// PostgreSQL's own judgment, which distinguishes a stale postmaster.pid from a live one.
fn is_running(binaries: &Binaries, account: &Account, cluster: &Path) -> Result<bool, PgBoxError> {
    let mut command = account.command(&binaries.program("pg_ctl"));
    let output = command
        .args(["status", "-D"])
        .arg(cluster)
        .stdin(Stdio::null())
        .output()
        .map_err(PgBoxError::io("run pg_ctl status"))?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(3) => Ok(false),
        _ => Err(PgBoxError::Program {
            name: "pg_ctl status",
            output: String::from_utf8_lossy(&output.stderr).into_owned(),
        }),
    }
}

/// Starts the server and waits until it accepts connections, also after a crash.
fn launch(binaries: &Binaries, account: &Account, cluster: &Path) -> Result<(), PgBoxError> {
    let log = cluster.join("server.log");
    let mut command = account.command(&binaries.program("pg_ctl"));
    command
        .args(["start", "-w", "-t", "600", "-D"])
        .arg(cluster)
        .arg("-l")
        .arg(&log);
    // The server keeps the streams open, so they must not be pipes that a reader waits on.
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(PgBoxError::io("run pg_ctl start"))?;
    if status.success() {
        return Ok(());
    }
    let text = cluster::read_owned(account, &log).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(8).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(PgBoxError::Program {
        name: "pg_ctl start",
        output: format!("{}\n{}", log.display(), last.join("\n")),
    })
}

/// Process id and socket folder: the first and fifth line of postmaster.pid.
fn read_pid_file(account: &Account, cluster: &Path) -> Result<(u32, PathBuf), PgBoxError> {
    let path = cluster.join("postmaster.pid");
    let text = cluster::read_owned(account, &path)
        .map_err(PgBoxError::io(format!("read {}", path.display())))?;
    let mut lines = text.lines();
    let pid = lines.next().and_then(|line| line.trim().parse().ok());
    let sockets = lines.nth(3).filter(|line| !line.is_empty());
    pid.zip(sockets.map(PathBuf::from))
        .ok_or_else(|| PgBoxError::Folder {
            path,
            why: "has no process id and socket folder; was the server started by something else?"
                .to_owned(),
        })
}

fn make_database(server: &Server) -> Result<(), PgBoxError> {
    let refused = |error: postgres::Error| PgBoxError::Db(error.into());
    let mut client = pg::connect(&server.url_of("postgres")).map_err(PgBoxError::Db)?;
    let there = client
        .query_opt("SELECT FROM pg_database WHERE datname = $1", &[&NAME])
        .map_err(refused)?;
    if there.is_none() {
        client
            .batch_execute(&format!("CREATE DATABASE {NAME}"))
            .map_err(refused)?;
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}
