//! What the benchmarks stand on: a server of their own, and repos in files.

use crate::cpu::{self, ServerCpu};
use postgres::{Client, NoTls};
use simnet::Population;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A server with a database that has the official schema, and a folder.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    server: pgbox::Server,
}

/// What a piece of work took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
    pub(crate) client_cpu: f64,
    pub(crate) server_cpu: f64,
    pub(crate) peak_mib: f64,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// One whose server has these settings besides those of a private database.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("open it");
        let server =
            pgbox::start_with(&folder.path().join("skyfill-data"), settings).expect("PostgreSQL");
        let scene = Self { folder, server };
        scene
            .admin()
            .batch_execute("CREATE DATABASE migrated")
            .expect("a database");
        let mut migrated = scene.connect("migrated");
        appview::migrate::migrate(&mut migrated, "bsky").expect("migrate");
        scene
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.server.url_of(database)
    }

    fn admin(&self) -> Client {
        self.connect("postgres")
    }

    pub(crate) fn connect(&self, database: &str) -> Client {
        Client::connect(&self.url(database), NoTls).expect("connect")
    }

    /// A new database with the official schema; what the server had to write is written.
    pub(crate) fn fresh(&self, name: &str) {
        let mut admin = self.admin();
        admin
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .expect("drop");
        admin
            .batch_execute(&format!("CREATE DATABASE {name} TEMPLATE migrated"))
            .expect("create");
        admin.batch_execute("CHECKPOINT").expect("checkpoint");
    }

    pub(crate) fn server_cpu(&self) -> ServerCpu {
        ServerCpu::of(self.server.postmaster())
    }

    /// Times `work`, which answers CPU seconds and peak memory of its client.
    pub(crate) fn time(&self, work: impl FnOnce() -> (f64, f64)) -> Took {
        let server = self.server_cpu();
        let before = server.seconds();
        let started = Instant::now();
        let (client_cpu, peak_mib) = work();
        Took {
            seconds: started.elapsed().as_secs_f64(),
            client_cpu,
            server_cpu: server.seconds() - before,
            peak_mib,
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        drop(pgbox::stop(&self.folder.path().join("skyfill-data")));
    }
}

/// Runs a command to its end (or, if it `may_abort`, to its failpoint); its CPU seconds and its
/// peak memory in MiB, looked at every ten milliseconds.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(command: &mut Command, may_abort: bool) -> (f64, f64) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("run it");
    let (mut cpu_seconds, mut peak) = (0f64, 0);
    let status = loop {
        cpu_seconds = cpu_seconds.max(cpu::of_process(child.id()));
        peak = peak.max(cpu::peak_kib(child.id()));
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(
        status.success() || (may_abort && status.code().is_none()),
        "{command:?}: {status}"
    );
    (cpu_seconds, peak as f64 / 1024.0)
}

/// Writes the repos of a population to a folder of CAR files; how many bytes.
pub(crate) fn write_cars(population: &Population, folder: &Path) -> u64 {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut bytes = 0;
    for account in 0..population.len() {
        let car = population.car(account);
        bytes += car.len() as u64;
        std::fs::write(folder.join(format!("{account}.car")), car).expect("write a CAR");
    }
    bytes
}

/// `skyfill run` from a folder of CARs, on one database.
pub(crate) fn skyfill_run(binary: &Path, url: &str, cars: Option<&PathBuf>) -> Command {
    let mut command = Command::new(binary);
    command.args([
        "run",
        "--handles",
        "skip",
        "--no-verify",
        "--now",
        "2026-11-01T00:00:00Z",
    ]);
    if let Some(cars) = cars {
        command.arg("--from-cars").arg(cars);
    }
    command.env("BSKY_DB_POSTGRES_URL", url);
    command
}

/// The middle one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
