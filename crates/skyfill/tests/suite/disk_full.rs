//! A disk that is full in each phase: a message, a wait or an end, and equal tables in the end.

use simnet::Population;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;
use testbed::*;

/// Room that is enough.
const ENOUGH: &str = "500m";
/// Room for skyfill's own tables, in KiB, but not for the rows.
const TOO_LITTLE: u64 = 4096;
/// Hardly any.
const NOTHING: u64 = 64;

/// A small file system, a tablespace on it, and a database in that.
struct Disk {
    folder: TempDir,
    space: String,
    db: Option<TestDb>,
}

fn mount(arguments: &[&str], folder: &TempDir) -> bool {
    let mut command = Command::new("mount");
    command.args(arguments).arg(folder.path());
    command.output().is_ok_and(|output| output.status.success())
}

impl Disk {
    /// Nothing where mounting is not allowed.
    fn mounted() -> Option<Self> {
        let folder = folder();
        let options = format!("size={ENOUGH},mode=0755");
        if !mount(&["-t", "tmpfs", "-o", &options, "skyfill-test"], &folder) {
            return None;
        }
        let mut disk = Self {
            folder,
            space: format!("small_{}", std::process::id()),
            db: None,
        };
        let beside = TestDb::empty();
        let mut client = beside.client();
        let of_server: String = client.query_one("SHOW data_directory", &[]).unwrap().get(0);
        let owner = PathBuf::from(of_server).metadata().unwrap();
        chown(disk.folder.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
        let (space, path) = (&disk.space, disk.folder.path().display());
        let sql = format!("CREATE TABLESPACE {space} LOCATION '{path}'");
        client.batch_execute(&sql).unwrap();
        let db = TestDb::made_with(&format!("TABLESPACE {space}"));
        appview::migrate::migrate(&mut db.client(), "bsky").unwrap();
        disk.db = Some(db);
        Some(disk)
    }

    fn db(&self) -> &TestDb {
        self.db.as_ref().unwrap()
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(mount(&["-o", &options], &self.folder), "{options}");
    }

    /// Leaves this much room, in KiB.
    fn leave(&self, room: u64) {
        let output = Command::new("df")
            .args(["-k", "--output=used"])
            .arg(self.folder.path())
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let used: u64 = printed.lines().nth(1).unwrap().trim().parse().unwrap();
        self.resize(&format!("{}k", used + room));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let client = TestDb::empty();
        drop(self.db.take());
        let drop_space = format!("DROP TABLESPACE IF EXISTS {}", self.space);
        drop(client.client().batch_execute(&drop_space));
        drop(Command::new("umount").arg(self.folder.path()).status());
    }
}

#[test]
fn a_disk_that_is_full_in_a_phase_costs_nothing_but_time() {
    let Some(disk) = Disk::mounted() else {
        eprintln!("not run: mounting a file system is not allowed here");
        return;
    };
    let population = Population::new(15, 30, 8000);
    let net = Net::of_cars(
        (0..population.len()).map(|account| (population.did(account), population.car(account))),
    );
    let dir = folder();
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let reference = TestDb::migrated();
    run_well(run_load(&reference.url).arg(&file));
    // While rows are loaded.
    let until = |place: &str| {
        let mut command = run_load(&disk.db().url);
        command.env("SKYFILL_FAILPOINT", place);
        command
    };
    disk.leave(TOO_LITTLE);
    let mut loading = Watched::start(until("phase").arg(&file));
    loading.wait_for("No space left on device");
    assert!(loading.printed().contains("waiting for the database"));
    disk.resize(ENOUGH);
    assert_eq!(loading.wait_for_end(), None, "{}", loading.printed());
    // And in each phase after that.
    let (mut full, mut has_room) = (0, false);
    for phase in 0.. {
        assert!(phase < 20, "it does not come to its end");
        if !has_room {
            disk.leave(NOTHING);
        }
        let mut run = Watched::start(&mut until("phase=2"));
        let mut code = None;
        wait_until("a full disk or an end", || {
            code = run.child.try_wait().unwrap();
            code.is_some() || run.printed().contains("No space left on device")
        });
        disk.resize(ENOUGH);
        let code = run.wait_for_end();
        let printed = run.printed();
        // One that ended at once has done nothing: the next one gets further.
        has_room = code == Some(3);
        full += i32::from(printed.contains("No space left on device"));
        match code {
            Some(0) => break,
            // It waited, did what it goes on with, and came to the end of that.
            None => {}
            // It ended and said why.
            Some(3) => assert!(
                // Without room, the server does not even let a session in.
                printed.contains("No space left on device") || printed.contains("could not write"),
                "{printed}"
            ),
            other => panic!("{other:?}: {printed}"),
        }
    }
    assert!(full >= 2, "the disk was full in {full} phases");
    assert_eq!(difference(&disk.db().dump(), &reference.dump()), None);
}
