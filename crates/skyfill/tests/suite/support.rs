//! What the tests stand on: a real PostgreSQL shared by all of them (started on first use, a
//! database for each test), the real binary, real sockets, and the practice PDS.

use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The binary under test.
pub(crate) fn skyfill() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skyfill"));
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    command
}

/// All variables that commands read.
pub(crate) const VARIABLES: &[&str] = &[
    "BSKY_DB_POSTGRES_URL",
    "BSKY_DB_POSTGRES_SCHEMA",
    "BSKY_DID_PLC_URL",
    "BSKY_REPO_PROVIDER",
    "CONSUMER_BATCH_SIZE",
    "CONSUMER_TRANSACTION_SIZE",
    "CONSUMER_PG_NATIVE",
    "CONSUMER_MAX_DB_CONNECTIONS",
    "LOGGING_INTERVAL",
    "PRODUCER_CONCURRENCY",
    "PRODUCER_PROCESSING_TIMEOUT",
    "SKYFILL_CONTACT",
    "SKYFILL_DATA_DIR",
    "SKYFILL_FAILPOINT",
    "SKYFILL_SPOOL_DIR",
];

/// A folder for one test that the server's user can reach, too.
pub(crate) fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open the folder");
    dir
}

/// The shared corpus, or nothing; says so.
pub(crate) fn shared(what: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared")
        .join(what);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: ../shared/{what} is absent");
    None
}

fn server() -> pgbox::Server {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres");
    let settings = [
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("max_connections", "300"),
        ("shared_buffers", "512MB"),
    ];
    pgbox::start_with(&folder, &settings).expect("the tests' PostgreSQL")
}

/// Drops what earlier test processes left behind: the template of each, and the databases of those
/// that were killed.
fn drop_databases_of_ended_processes() {
    let mut client = Client::connect(&server().url_of("postgres"), NoTls).expect("connect");
    let names = "SELECT datname FROM pg_database WHERE datname ~ '^test_[0-9]+_[0-9]+$'";
    for row in client.query(names, &[]).expect("list databases") {
        let name: String = row.get(0);
        let process = name.split('_').nth(1).and_then(|pid| pid.parse().ok());
        let is_running = process
            .and_then(Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
        if !is_running {
            // Another process that begins at the same time may have dropped it.
            drop(client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
        }
    }
}

/// A database of a test's own; it goes with the value.
pub(crate) struct TestDb {
    server: pgbox::Server,
    name: String,
    pub(crate) url: String,
}

impl TestDb {
    /// An empty one.
    pub(crate) fn empty() -> Self {
        Self::made_with("")
    }

    /// An empty one with these options of CREATE DATABASE.
    pub(crate) fn made_with(options: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let name = format!(
            "test_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let mut client = Client::connect(&server.url_of("postgres"), NoTls).expect("connect");
        client
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .expect("drop an old database");
        client
            .batch_execute(&format!("CREATE DATABASE {name} {options}"))
            .expect("make a database");
        let url = server.url_of(&name);
        Self { server, name, url }
    }

    /// One with the official schema: a copy of one that was migrated once, by whichever test came
    /// first.
    pub(crate) fn migrated() -> Self {
        static TEMPLATE: OnceLock<TestDb> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            drop_databases_of_ended_processes();
            let db = Self::empty();
            appview::migrate::migrate(&mut db.client(), "bsky").expect("migrate");
            db
        });
        Self::made_with(&format!("TEMPLATE {}", template.name))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).expect("connect")
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM bsky.\"{table}\"");
        self.client().query_one(&sql, &[]).expect("count").get(0)
    }

    /// Empties all tables that repos fill.
    pub(crate) fn truncate(&self) {
        let tables: Vec<String> = appview::table::ALL
            .iter()
            .map(|table| format!("bsky.\"{}\"", table.name))
            .collect();
        let sql = format!(
            "TRUNCATE bsky.duplicate_record, bsky.post_agg, bsky.profile_agg, bsky.actor, bsky.actor_sync, {}",
            tables.join(", ")
        );
        self.client().batch_execute(&sql).expect("truncate");
        self.client()
            .batch_execute(
                "DO $$ BEGIN IF to_regclass('skyfill.repo') IS NOT NULL THEN
                   TRUNCATE skyfill.repo, skyfill.part, skyfill.skipped; END IF; END $$",
            )
            .expect("truncate the ledger");
    }

    /// The rows of every table as JSON, sorted; `notification.id` and migration times left out.
    pub(crate) fn dump(&self) -> BTreeMap<String, Vec<String>> {
        dump_of(&mut self.client())
    }
}

/// The rows of every table as JSON, sorted; `notification.id` and migration times left out.
pub(crate) fn dump_of(client: &mut Client) -> BTreeMap<String, Vec<String>> {
    let tables = client
            .query("SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'bsky' AND table_type = 'BASE TABLE'", &[])
            .expect("list tables");
    let mut dump = BTreeMap::new();
    for table in tables {
        let table: String = table.get(0);
        let sql = format!(
            "SELECT (to_jsonb(x) - '{{id,timestamp}}'::text[])::text FROM bsky.\"{table}\" x"
        );
        let rows = client.query(&sql, &[]).expect("dump");
        dump.insert(
            table,
            canonical(rows.iter().map(|row| row.get::<_, String>(0))),
        );
    }
    dump
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if let Ok(mut client) = Client::connect(&self.server.url_of("postgres"), NoTls) {
            drop(client.batch_execute(&format!(
                "DROP DATABASE IF EXISTS {} WITH (FORCE)",
                self.name
            )));
        }
    }
}

/// The repos of a practice network served by a PDS on loopback, with documents and handles.
pub(crate) struct Net {
    pub(crate) server: simnet::Server,
    pub(crate) dids: Vec<String>,
}

impl Net {
    /// Serves repos, given as DID and CAR.
    pub(crate) fn of_cars(cars: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let server = simnet::Server::start(HashMap::new());
        let mut dids = Vec::new();
        for (did, car) in cars {
            server.set(&did, simnet::Answer::Repo(Arc::new(car)));
            dids.push(did);
        }
        dids.sort();
        Self { server, dids }
    }

    /// Serves a tangle, with its documents and handles.
    pub(crate) fn of_tangle(tangle: &simnet::Tangle) -> Self {
        let net = Self::of_cars(tangle.dids().map(|did| (did.to_owned(), tangle.car(did))));
        for did in tangle.dids() {
            net.set_document(did, &tangle.document(did, &net.server.url()));
            let handle = tangle.handle(did).to_ascii_lowercase();
            if let Some(led) = tangle.leads_to(&handle) {
                net.set_handle(&handle, led);
            }
        }
        net
    }

    pub(crate) fn set_document(&self, did: &str, document: &str) {
        let asked = match did.strip_prefix("did:web:") {
            Some(host) => format!("web {}", host.replace("%3A", ":").to_lowercase()),
            None => format!("plc {did}"),
        };
        self.server.set(&asked, simnet::Answer::text(document));
    }

    pub(crate) fn set_handle(&self, handle: &str, did: &str) {
        let asked = format!("handle {}", handle.to_lowercase());
        self.server
            .set(&asked, simnet::Answer::text(format!("{did}\n")));
    }

    /// Loads all repos into `db` over as many sockets and in such an order, with these arguments
    /// for the consumers.
    pub(crate) fn load(
        &self,
        db: &TestDb,
        dir: &Path,
        dids: &[String],
        sockets: usize,
        consumer_args: &[&str],
    ) {
        let file = did_file(dir, &self.server.url(), dids.iter().map(String::as_str));
        let consumers: Vec<Consumer> = (0..sockets)
            .map(|n| Consumer::start(&db.url, dir, &format!("s{n}"), consumer_args))
            .collect();
        let paths: Vec<&Path> = consumers.iter().map(|c| c.socket.as_path()).collect();
        let output = producer(dir, &file, &paths)
            .output()
            .expect("run the producer");
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(summary(&output)["sent"], dids.len(), "{}", told(&output));
        for consumer in consumers {
            let log = consumer.log();
            let code = consumer.stop();
            assert!(matches!(code, Some(0 | 1)), "{code:?} {log}");
        }
    }

    /// `skyfill identities` with everything that it asks pointed here. DNS knows nothing.
    pub(crate) fn identities(&self, db: &TestDb) -> Command {
        self.identities_with(db, dns())
    }

    /// The same with this DNS server.
    pub(crate) fn identities_with(&self, db: &TestDb, dns: &simnet::Dns) -> Command {
        let mut command = skyfill();
        let url = self.server.url();
        command.args([
            "identities",
            "--json",
            "--now",
            NOW,
            "--timeout",
            "2",
            "--plc-rate",
            "1000",
        ]);
        command.args([
            "--plc-url",
            &url,
            "--well-known-server",
            &url,
            "--did-web-server",
            &url,
        ]);
        command.args(["--dns-server", &dns.address().to_string()]);
        command.env("BSKY_DB_POSTGRES_URL", &db.url);
        command
    }
}

/// A DNS server that knows nothing, and says so at once.
pub(crate) fn dns() -> &'static simnet::Dns {
    static DNS: std::sync::OnceLock<simnet::Dns> = std::sync::OnceLock::new();
    DNS.get_or_init(|| simnet::Dns::start(HashMap::new()))
}

/// The time of every test's run.
pub(crate) const NOW: &str = "2026-11-01T00:00:00.000Z";

/// `skyfill run` without accounts being looked up; add what to load.
pub(crate) fn run_load(url: &str) -> Command {
    let mut command = skyfill();
    command.args([
        "run",
        "--json",
        "--allow-private-hosts",
        "--host-rate",
        "10000",
        "--handles",
        "skip",
        "--now",
        NOW,
    ]);
    command.env("BSKY_DB_POSTGRES_URL", url);
    command
}

/// Keys and DAG-CBOR of the records in a CAR.
pub(crate) fn records_of(car: &[u8], did: &str) -> Vec<(String, Vec<u8>)> {
    let repo = atrepo::Repo::open(car, did).expect("a repo");
    let mut records = Vec::new();
    repo.entries(|entry| -> Result<(), atrepo::RepoError> {
        if let atrepo::Entry::Record {
            collection,
            rkey,
            bytes,
            ..
        } = entry
        {
            records.push((format!("{collection}/{rkey}"), bytes.to_vec()));
        }
        Ok(())
    })
    .expect("entries");
    records
}

/// A repo some time later: records are gone, changed and new, some of them duplicates of others.
pub(crate) fn later(car: &[u8], did: &str, random: &mut simnet::Random) -> Vec<u8> {
    let before = records_of(car, did);
    let mut after: std::collections::BTreeMap<String, Vec<u8>> = std::collections::BTreeMap::new();
    for (number, (key, bytes)) in before.iter().enumerate() {
        let collection = key.split('/').next().expect("a collection");
        let same: Vec<&Vec<u8>> = before
            .iter()
            .filter(|(other, _)| other.split('/').next() == Some(collection))
            .map(|(_, bytes)| bytes)
            .collect();
        let other = same[random.index(same.len())].clone();
        match random.below(10) {
            0 | 1 => {}
            2 => _ = after.insert(key.clone(), other),
            3 => {
                after.insert(key.clone(), bytes.clone());
                let micros =
                    1_600_000_000_000_000 + random.below(200_000_000_000_000) + number as u64;
                after.insert(
                    format!("{collection}/{}", atrepo::syntax::tid(micros, 3)),
                    other,
                );
            }
            _ => _ = after.insert(key.clone(), bytes.clone()),
        }
    }
    let rev = &atrepo::Repo::open(car, did)
        .expect("a repo")
        .commit()
        .rev
        .clone();
    let micros =
        atrepo::syntax::tid_micros(rev).expect("a TID") + 1_000_000 + random.below(1_000_000);
    let rev = atrepo::syntax::tid(micros, 1);
    simnet::build_repo(did, &rev, after.into_iter().collect())
}

/// `skyfill finalize` in slices so small that every stage has some.
pub(crate) fn finalize(db: &TestDb) -> Command {
    finalize_in_slices(db, "60")
}

/// `skyfill finalize` in slices of about so many rows.
pub(crate) fn finalize_in_slices(db: &TestDb, rows: &str) -> Command {
    let mut command = skyfill();
    command.args(["finalize", "--json", "--slice-rows", rows]);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// Runs a command that must end well.
pub(crate) fn run_well(command: &mut Command) -> Output {
    let output = command.output().expect("run skyfill");
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    output
}

/// What differs between two dumps, in a few lines; nothing if they are the same.
pub(crate) fn difference(
    ours: &BTreeMap<String, Vec<String>>,
    theirs: &BTreeMap<String, Vec<String>>,
) -> Option<String> {
    let mut told = String::new();
    for (table, rows) in theirs {
        let found = ours.get(table).cloned().unwrap_or_default();
        if found != *rows {
            let only = |a: &[String], b: &[String]| -> Vec<String> {
                a.iter()
                    .filter(|row| b.binary_search(row).is_err())
                    .take(3)
                    .cloned()
                    .collect()
            };
            told += &format!(
                "{table}: {} rows, wanted {}; only ours {:#?}, only theirs {:#?}\n",
                found.len(),
                rows.len(),
                only(&found, rows),
                only(rows, &found)
            );
        }
    }
    (!told.is_empty()).then_some(told)
}

/// Rows of JSON, each with its keys sorted, all sorted.
pub(crate) fn canonical(rows: impl Iterator<Item = String>) -> Vec<String> {
    let mut rows: Vec<String> = rows
        .map(|row| {
            serde_json::from_str::<Value>(&row)
                .expect("JSON")
                .to_string()
        })
        .collect();
    rows.sort();
    rows
}

/// A running `skyfill consumer`.
pub(crate) struct Consumer {
    pub(crate) child: Child,
    pub(crate) socket: PathBuf,
    log: PathBuf,
    /// Where its part of the log begins: another one may have written before.
    log_start: u64,
}

impl Consumer {
    /// Starts it and waits until it listens.
    pub(crate) fn start(db_url: &str, folder: &Path, name: &str, args: &[&str]) -> Self {
        Self::start_with(db_url, folder, name, args, None)
    }

    /// The same with a failpoint.
    pub(crate) fn start_with(
        db_url: &str,
        folder: &Path,
        name: &str,
        args: &[&str],
        failpoint: Option<&str>,
    ) -> Self {
        let socket = folder.join(format!("{name}.sock"));
        let log = folder.join(format!("{name}.log"));
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("log");
        let log_start = out.metadata().expect("log").len();
        let child = skyfill()
            .arg("consumer")
            .arg(&socket)
            .arg("--rejects")
            .arg(folder.join(format!("{name}.rejects")))
            .args(args)
            .env("BSKY_DB_POSTGRES_URL", db_url)
            .env("SKYFILL_FAILPOINT", failpoint.unwrap_or("none"))
            .stdout(Stdio::null())
            .stderr(out)
            .spawn()
            .expect("start a consumer");
        let mut consumer = Self {
            child,
            socket,
            log,
            log_start,
        };
        consumer.wait_for("listening on");
        consumer
    }

    /// Waits until the log says `text` again after being started.
    pub(crate) fn wait_for(&mut self, text: &str) {
        wait_until(text, || {
            let has_ended = self.child.try_wait().expect("wait").is_some();
            let has_said = self.log().contains(text);
            assert!(
                has_said || !has_ended,
                "the consumer ended:\n{}",
                self.log()
            );
            has_said
        });
    }

    pub(crate) fn log(&self) -> String {
        let all = fs::read_to_string(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).expect("a log");
        all.get(start..).unwrap_or_default().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// Ends it well; answers its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().expect("wait").code()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends a signal to a process that a test started.
pub(crate) fn signal(child: &Child, name: &str) {
    let signal = match name {
        "TERM" => Signal::TERM,
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "USR1" => Signal::USR1,
        other => panic!("no signal {other}"),
    };
    send_signal(child.id(), signal);
}

/// Sends a signal to a process of the test's own.
pub(crate) fn send_signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    rustix::process::kill_process(pid, signal).expect("kill");
}

/// A DID file in `folder` for `repos` on `url`.
pub(crate) fn did_file<'a>(
    folder: &Path,
    url: &str,
    dids: impl IntoIterator<Item = &'a str>,
) -> PathBuf {
    let path = folder.join("dids.jsonl");
    let lines: String = dids
        .into_iter()
        .map(|did| format!("[\"{did}\",\"{url}\"]\n"))
        .collect();
    fs::write(&path, lines).expect("write a DID file");
    path
}

/// `skyfill producer` with arguments that every test wants.
pub(crate) fn producer(folder: &Path, dids: &Path, sockets: &[&Path]) -> Command {
    let mut command = skyfill();
    command.arg("producer").arg(dids).args(sockets);
    command.args([
        "--json",
        "--now",
        NOW,
        "--allow-private-hosts",
        "--host-rate",
        "10000",
    ]);
    command.arg("--failures").arg(folder.join("failures.jsonl"));
    command
}

/// What a command printed, for people who read a failed test.
pub(crate) fn told(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The JSON summary on stdout.
pub(crate) fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(output)))
}

/// Sends `text` to a consumer as a producer would, and waits until it is committed.
pub(crate) fn send_lines(socket: &Path, text: &str) {
    use std::io::{Read, Write};
    let mut stream =
        std::os::unix::net::UnixStream::connect(socket).expect("connect to the consumer");
    stream.write_all(text.as_bytes()).expect("send");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("end the stream");
    stream
        .read_to_end(&mut Vec::new())
        .expect("wait for the commit");
}

/// Waits until something has happened. What has not happened after minutes never will, however busy
/// the machine is.
pub(crate) fn wait_until(what: &str, mut has_happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !has_happened() {
        assert!(Instant::now() < deadline, "{what} never happened");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// A command that runs, and what it printed so far.
pub(crate) struct Watched {
    pub(crate) child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Watched {
    /// Starts a command.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start skyfill");
        let printed = Arc::new(Mutex::new(Vec::new()));
        let out = child.stdout.take().expect("its stdout");
        let err = child.stderr.take().expect("its stderr");
        let readers = vec![read_all(out, &printed), read_all(err, &printed)];
        Self {
            child,
            printed,
            readers,
        }
    }

    /// What it printed so far.
    pub(crate) fn printed(&self) -> String {
        let printed = self.printed.lock().expect("what was printed");
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// Waits until it has printed this, or has ended without.
    pub(crate) fn wait_for(&mut self, text: &str) {
        wait_until(text, || {
            let has_ended = self.child.try_wait().expect("wait").is_some();
            let has_printed = self.printed().contains(text);
            assert!(
                has_printed || !has_ended,
                "it ended without {text:?}:\n{}",
                self.printed()
            );
            has_printed
        });
    }

    /// Waits until it ends. One that is held up for good fails the test with all that it printed.
    pub(crate) fn wait_for_end(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("wait").is_none() {
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.printed()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until it ends; its exit code and all that it printed.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("wait").code();
        for reader in self.readers.drain(..) {
            reader.join().expect("read what it printed");
        }
        (code, self.printed())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read_all(
    mut from: impl std::io::Read + Send + 'static,
    into: &Arc<Mutex<Vec<u8>>>,
) -> std::thread::JoinHandle<()> {
    let into = Arc::clone(into);
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            into.lock()
                .expect("what was printed")
                .extend(&piece[..count]);
        }
    })
}

/// Seconds of processor time that a process has used.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    /// Ticks of the clock in a second, as `/proc` counts them.
    const TICKS: f64 = 100.0;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / TICKS
}

/// Peak memory of a process in KiB.
pub(crate) fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0)
}
