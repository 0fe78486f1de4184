//! Creates a cluster and writes its settings.

use crate::PgBoxError;
use crate::account::Account;
use crate::binaries::Binaries;
use crate::folder::{NOFOLLOW, NONBLOCK};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;
use std::process::{Output, Stdio};

/// If /dev/shm is smaller, dynamic shared memory goes to files instead. Containers often have 64 MB
/// there.
const SMALL_SHM_BYTES: u64 = 1 << 30;

/// The version of the cluster in `cluster`; `None` if there is none. A cluster that this user may
/// not read is an error, not an absent cluster.
pub(crate) fn version(account: &Account, cluster: &Path) -> Result<Option<String>, PgBoxError> {
    match read_owned(account, &cluster.join("PG_VERSION")) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(PgBoxError::Folder {
            path: cluster.to_owned(),
            why: "is another user's; run skyfill as that user, or as root".to_owned(),
        }),
        Err(_) => Ok(None),
    }
}

/// Creates a cluster: UTF-8, collation C, superuser `skyfill`, no password on its private socket.
pub(crate) fn init(
    binaries: &Binaries,
    account: &Account,
    cluster: &Path,
) -> Result<(), PgBoxError> {
    let mut command = account.command(&binaries.program("initdb"));
    command.arg("-D").arg(cluster).args([
        "--locale=C",
        "--encoding=UTF8",
        "--username=skyfill",
        "--auth-local=trust",
        "--auth-host=reject",
        "--no-instructions",
    ]);
    run("initdb", &mut command)?;
    let main = cluster.join("postgresql.conf");
    let mut text =
        read_owned(account, &main).map_err(PgBoxError::io(format!("read {}", main.display())))?;
    text.push_str("\n# skyfill's settings; rewritten at each start.\ninclude = 'skyfill.conf'\n");
    write_as(account, &main, &text)
}

/// Writes `skyfill.conf`: the settings that depend on the machine and on the path of the socket.
pub(crate) fn configure(
    account: &Account,
    cluster: &Path,
    socket_folder: &Path,
    extra: &[(&str, &str)],
) -> Result<(), PgBoxError> {
    let memory = memory_bytes();
    // A quarter of the memory, as PostgreSQL's manual advises, within bounds.
    let buffers = (memory / 4).clamp(128 << 20, 8 << 30) >> 20;
    // Index builds may use all cores. PostgreSQL's default is 8.
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = cores.max(8).to_string();
    let maintenance = (memory / 32).clamp(64 << 20, 1 << 30) >> 20;
    let socket_folder = socket_folder.display().to_string();
    let mut settings: Vec<(&str, String)> = vec![
        ("listen_addresses", String::new()),
        ("port", "5432".to_owned()),
        ("unix_socket_directories", socket_folder),
        ("shared_buffers", format!("{buffers}MB")),
        ("maintenance_work_mem", format!("{maintenance}MB")),
        ("max_wal_size", "8GB".to_owned()),
        ("checkpoint_timeout", "15min".to_owned()),
        ("wal_compression", "on".to_owned()),
        ("jit", "off".to_owned()),
        ("max_worker_processes", workers.clone()),
        ("max_parallel_workers", workers),
    ];
    if shm_bytes().is_some_and(|bytes| bytes < SMALL_SHM_BYTES) {
        settings.push(("dynamic_shared_memory_type", "mmap".to_owned()));
    }
    settings.extend(
        extra
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    let text: String = settings
        .iter()
        .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
        .collect();
    let path = cluster.join("skyfill.conf");
    write_as(account, &path, &text)
}

/// Reads a file that must belong to the account and not be a link. So root reads nothing on behalf
/// of a user that the user could not read.
pub(crate) fn read_owned(account: &Account, path: &Path) -> std::io::Result<String> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(NOFOLLOW | NONBLOCK)
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != account.uid {
        return Err(std::io::Error::new(
            std::io::ErrorKind::PermissionDenied,
            format!("it is not a file of {}", account.name),
        ));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Replaces a file of the account in one step: a new file is written, given to the account and
/// renamed. In a folder that the account owns, root follows no link.
fn write_as(account: &Account, path: &Path, text: &str) -> Result<(), PgBoxError> {
    let new = path.with_extension("conf.new");
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(NOFOLLOW)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        if account.drop_root {
            fchown(&file, Some(account.uid), Some(account.gid))?;
        }
        fs::rename(&new, path)
    };
    write().map_err(PgBoxError::io(format!("write {}", path.display())))
}

/// Size of /dev/shm, if it exists.
fn shm_bytes() -> Option<u64> {
    let stat = rustix::fs::statvfs("/dev/shm").ok()?;
    stat.f_blocks.checked_mul(stat.f_frsize)
}

/// Memory of the machine; 1 GiB if it is unknown.
fn memory_bytes() -> u64 {
    let told = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    told.map_or(1 << 30, |kib| kib << 10)
}

/// Runs a program to its end; an error contains what it printed.
pub(crate) fn run(
    name: &'static str,
    command: &mut std::process::Command,
) -> Result<Output, PgBoxError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(PgBoxError::io(format!("run {name}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let text = format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Err(PgBoxError::Program { name, output: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_of_the_account_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let me = Account {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            name: "me".to_owned(),
            drop_root: false,
        };
        let other = Account {
            uid: me.uid + 1,
            ..me.clone()
        };
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "text").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read_owned(&me, &file).unwrap(), "text");
        assert!(read_owned(&me, &link).is_err());
        assert!(read_owned(&other, &file).is_err());
    }
}
