//! Producers and consumers with sockets between them, and with NATS: what NATS costs, and what more
//! producers and consumers bring.
//!
//! Each producer has a host of its own, as its machine would. In the second part, each answer comes
//! late, so that a producer is bound by its hosts, not by the machine. In the third, the stream is
//! filled first, and consumers store what is in it.

use crate::cpu;
use crate::scene::Scene;
use simnet::{Answer, Population, Server};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The port of the NATS server.
const PORT: &str = "14231";
/// How late answers are, where hosts bind.
const LATE: Duration = Duration::from_millis(60);
/// How often what is stored is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who works, and how.
#[derive(Clone, Copy)]
struct Crew {
    producers: usize,
    consumers: usize,
    with_nats: bool,
    /// Whether hosts bind the producers.
    is_late: bool,
    /// Whether the consumers begin when everything is in the stream.
    is_filled_first: bool,
}

/// What it took.
#[derive(Clone, Copy, Debug, Default)]
struct Took {
    seconds: f64,
    producers: f64,
    consumers: f64,
    nats: f64,
    postgres: f64,
    /// CPU seconds of everything on the machine, this process with its hosts included.
    all: f64,
}

struct Repos {
    cars: Vec<(String, Arc<Vec<u8>>)>,
    records: u64,
}

/// Runs it; the report.
pub(crate) fn run(binary: &Path, records: usize) -> String {
    let scene = Scene::new();
    eprintln!("generating {records} records");
    let population = Population::new(1, (records / 160).max(12), records);
    let mut repos = Repos {
        cars: (0..population.len())
            .map(|account| (population.did(account), Arc::new(population.car(account))))
            .collect(),
        records: 0,
    };
    let one = |producers, consumers, with_nats| Crew {
        producers,
        consumers,
        with_nats,
        is_late: false,
        is_filled_first: false,
    };
    // What is first pays for memory that the machine has never touched.
    repos.records = once(binary, &scene, &repos, one(1, 1, false)).1;
    let late = |producers, consumers| Crew {
        is_late: true,
        ..one(producers, consumers, true)
    };
    let filled = |consumers| Crew {
        is_filled_first: true,
        ..one(1, consumers, true)
    };
    let mut report = format!(
        "{} records of {} repos, once each. CPU in microseconds a record.\n\n",
        repos.records,
        repos.cars.len()
    );
    let parts: [(&str, &[Crew]); 3] = [
        (
            "Nothing binds but the machine",
            &[
                one(1, 1, false),
                one(1, 1, true),
                one(2, 2, false),
                one(2, 2, true),
            ],
        ),
        (
            "Hosts bind: each answer comes 60 ms late",
            &[late(1, 1), late(2, 1), late(3, 1), late(3, 2), late(6, 2)],
        ),
        (
            "The stream is full before consumers begin",
            &[filled(1), filled(2), filled(3)],
        ),
    ];
    for (title, crews) in parts {
        let _ = writeln!(
            report,
            "### {title}\n\n| between | producers | consumers | seconds | records/s | of the first | producers' CPU | NATS | consumers | PostgreSQL | the machine is busy |\n|---|---|---|---|---|---|---|---|---|---|---|"
        );
        let mut first = None;
        for crew in crews {
            let (took, stored) = once(binary, &scene, &repos, *crew);
            assert_eq!(stored, repos.records, "records");
            line(
                &mut report,
                *crew,
                took,
                &repos,
                *first.get_or_insert(took.seconds),
            );
        }
        report.push('\n');
    }
    report
}

#[allow(clippy::cast_precision_loss)]
fn line(report: &mut String, crew: Crew, took: Took, repos: &Repos, first: f64) {
    let records = repos.records as f64;
    let cores = process::Machine::this().cores as f64;
    let each = |seconds: f64| seconds / records * 1e6;
    let _ = writeln!(
        report,
        "| {} | {} | {} | {:.1} | {:.0} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} % |",
        if crew.with_nats { "NATS" } else { "sockets" },
        crew.producers,
        crew.consumers,
        took.seconds,
        records / took.seconds,
        first / took.seconds,
        each(took.producers),
        each(took.nats),
        each(took.consumers),
        each(took.postgres),
        took.all / took.seconds / cores * 100.0
    );
}

/// Loads all repos once; what it took, and how many records are stored.
fn once(binary: &Path, scene: &Scene, repos: &Repos, crew: Crew) -> (Took, u64) {
    scene.fresh("filled");
    let folder = scene.folder().join("transport");
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).expect("a folder");
    let hosts: Vec<Server> = (0..crew.producers)
        .map(|producer| host(repos, crew, producer))
        .collect();
    let nats = crew.with_nats.then(|| Nats::start(&folder));
    let url = scene.url("filled");
    let consume = || -> Vec<Worker> {
        let consumer = |number| consumer(binary, &folder, &url, crew, number);
        (0..crew.consumers).map(consumer).collect()
    };
    let produce = || -> Vec<Worker> {
        let producer = |(number, host)| producer(binary, &folder, host, repos, crew, number);
        hosts.iter().enumerate().map(producer).collect()
    };
    if crew.is_filled_first {
        for mut filling in produce() {
            assert!(filling.child.wait().expect("wait").success(), "a producer");
        }
    }
    let server = scene.server_cpu();
    let before = (server.seconds(), cpu::of_machine());
    let nats_before = nats.as_ref().map_or(0.0, Nats::seconds);
    let began = Instant::now();
    let mut consumers = consume();
    let mut producers = if crew.is_filled_first {
        Vec::new()
    } else {
        produce()
    };
    let mut client = scene.connect("filled");
    let loaded = "SELECT count(*) FROM skyfill.repo WHERE state = 'loaded'";
    loop {
        for worker in producers.iter_mut().chain(&mut consumers) {
            worker.look();
        }
        // The ledger is there once the first consumer has made it.
        let count = client.query_one(loaded, &[]);
        let count: i64 = count.map_or(0, |row| row.get(0));
        if usize::try_from(count) == Ok(repos.cars.len()) {
            break;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let seconds = began.elapsed().as_secs_f64();
    let sum = |workers: &mut Vec<Worker>| -> f64 { workers.iter_mut().map(Worker::look).sum() };
    let took = Took {
        seconds,
        producers: sum(&mut producers),
        consumers: sum(&mut consumers),
        nats: nats.as_ref().map_or(0.0, Nats::seconds) - nats_before,
        postgres: server.seconds() - before.0,
        all: cpu::of_machine() - before.1,
    };
    for mut worker in producers {
        assert!(worker.child.wait().expect("wait").success(), "a producer");
    }
    for mut worker in consumers {
        let pid = rustix::process::Pid::from_child(&worker.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("stop it");
        assert!(worker.child.wait().expect("wait").success(), "a consumer");
    }
    let count = "SELECT count(*) FROM bsky.record";
    let stored: i64 = client.query_one(count, &[]).expect("count").get(0);
    eprintln!(
        "{} producers, {} consumers, {}: {seconds:.1} s",
        crew.producers,
        crew.consumers,
        if crew.with_nats { "NATS" } else { "sockets" }
    );
    (took, u64::try_from(stored).unwrap_or(0))
}

/// Every so many-th repo, which is what a producer gets.
fn share(
    repos: &Repos,
    crew: Crew,
    producer: usize,
) -> impl Iterator<Item = &(String, Arc<Vec<u8>>)> {
    repos.cars.iter().skip(producer).step_by(crew.producers)
}

fn host(repos: &Repos, crew: Crew, producer: usize) -> Server {
    let answer = |car: &Arc<Vec<u8>>| match Answer::Repo(Arc::clone(car)) {
        repo if crew.is_late => Answer::Late(LATE, Box::new(repo)),
        repo => repo,
    };
    let answers: HashMap<String, Answer> = share(repos, crew, producer)
        .map(|(did, car)| (did.clone(), answer(car)))
        .collect();
    Server::start(answers)
}

/// A process that works, and the CPU seconds that were seen of it.
struct Worker {
    child: Child,
    seconds: f64,
}

impl Worker {
    fn start(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self {
            child: command.stderr(Stdio::null()).spawn().expect("start it"),
            seconds: 0.0,
        }
    }

    fn look(&mut self) -> f64 {
        self.seconds = self.seconds.max(cpu::of_process(self.child.id()));
        self.seconds
    }
}

fn nats_url() -> String {
    format!("nats://127.0.0.1:{PORT}")
}

fn socket(folder: &Path, consumer: usize) -> PathBuf {
    folder.join(format!("s{consumer}"))
}

fn consumer(binary: &Path, folder: &Path, url: &str, crew: Crew, number: usize) -> Worker {
    let mut command = Command::new(binary);
    command.arg("consumer").env("BSKY_DB_POSTGRES_URL", url);
    command.args(["--max-db-connections", "1"]);
    command.arg("--rejects").arg(folder.join("rejects.jsonl"));
    let socket = socket(folder, number);
    if crew.with_nats {
        command.args(["--transport", &nats_url()]);
    } else {
        command.arg(&socket);
    }
    let worker = Worker::start(&mut command);
    while !crew.with_nats && !socket.exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    worker
}

fn producer(
    binary: &Path,
    folder: &Path,
    host: &Server,
    repos: &Repos,
    crew: Crew,
    number: usize,
) -> Worker {
    let file = folder.join(format!("dids{number}.jsonl"));
    let lines: String = share(repos, crew, number)
        .map(|(did, _)| format!("[\"{did}\",\"{}\"]\n", host.url()))
        .collect();
    std::fs::write(&file, lines).expect("a DID file");
    let mut command = Command::new(binary);
    command.arg("producer").arg(&file);
    if crew.with_nats {
        command.args(["--transport", &nats_url()]);
    } else {
        command.arg(socket(folder, number % crew.consumers));
    }
    command.args(["--allow-private-hosts", "--now", "2026-11-01T00:00:00Z"]);
    command.args(["--host-rate", "100000", "--max-rate", "100000"]);
    command.arg("--failures").arg(folder.join("failures.jsonl"));
    Worker::start(&mut command)
}

/// A NATS server with JetStream. It is killed with the value.
struct Nats(Child);

impl Nats {
    fn start(folder: &Path) -> Self {
        let program = ["/usr/sbin/nats-server", "/usr/bin/nats-server"];
        let program = program.into_iter().find(|path| Path::new(path).exists());
        let child = Command::new(program.unwrap_or("nats-server"))
            .args(["-a", "127.0.0.1", "-p", PORT, "-js", "-sd"])
            .arg(folder.join("nats"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start nats-server; scripts/setup.sh test installs it");
        while std::net::TcpStream::connect(format!("127.0.0.1:{PORT}")).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self(child)
    }

    fn seconds(&self) -> f64 {
        cpu::of_process(self.0.id())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
