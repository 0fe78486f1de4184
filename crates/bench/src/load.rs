//! `skyfill run` against what the same rows cost at least: a bare COPY of prepared buffers into
//! tables without indexes, and the bare index builds.

use crate::cpu;
use crate::scene::{Scene, Took, median, run as run_command, skyfill_run, write_cars};
use ledger::runs::{Mode, Phase, Run};
use load::fresh;
use load::indexes::{Conflicts, Rebuild, Rebuilding, Resources};
use load::{Choice, Chunk, Costs, Encoder};
use simnet::Population;
use std::fmt::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections of both sides.
const CONNECTIONS: usize = 2;

/// The rows of a population, encoded as skyfill encodes them, in chunks as it sends them.
fn prepare(population: &Population) -> (Vec<Chunk>, u64) {
    let mut encoder = Encoder::new(Choice::ALL, 1_793_491_200_000, 8 << 20, &[]);
    let (mut chunks, mut records) = (Vec::new(), 0);
    let mut keep = |chunk: Chunk| {
        records += chunk.records();
        chunks.push(chunk);
        Ok(Chunk::default())
    };
    for account in 0..population.len() {
        let car = population.car(account);
        let repo = atrepo::Repo::open(&car, &population.did(account)).expect("a repo");
        encoder
            .add(
                &repo,
                load::Origin::default(),
                &mut Costs {
                    watch: &mut |_| Ok(()),
                    keys: &mut |_| Ok(()),
                },
                &mut |_| Ok(None),
                &mut keep,
            )
            .expect("rows");
    }
    encoder.flush(&mut keep).expect("rows");
    (chunks, records)
}

/// Sends all chunks, each in a transaction.
fn bare_copy(url: &str, chunks: &[Chunk]) -> (f64, f64) {
    let before = cpu::of_process(std::process::id());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut client = pg::connect(url).expect("connect");
                client
                    .batch_execute("SET search_path TO bsky, public; SET synchronous_commit = off")
                    .expect("settings");
                while let Some(chunk) = chunks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    client.batch_execute("BEGIN").expect("begin");
                    for (table, rows) in chunk.tables() {
                        load::copy_rows(&mut client, &table, rows).expect("copy");
                    }
                    client.batch_execute("COMMIT").expect("commit");
                }
            });
        }
    });
    (cpu::of_process(std::process::id()) - before, 0.0)
}

/// Makes all indexes and constraints, with the same memory and on as many connections as skyfill
/// does.
fn bare_indexes(scene: &Scene, database: &str) -> (f64, f64) {
    let url = scene.url(database);
    let mut client = scene.connect(database);
    let missing = load::indexes::missing(&mut client, "bsky").expect("what is dropped");
    let machine = Some(process::Machine::this());
    let resources = Resources::of_server(&mut client, machine, CONNECTIONS, None);
    let rebuild = Rebuild {
        url: &url,
        schema: "bsky",
        resources: resources.expect("the server's settings"),
        conflicts: Conflicts::Name,
        waits: pg::Waits::SILENT,
        report: &|_: Rebuilding<'_>| (),
    };
    let done = rebuild.run(&missing);
    assert!(matches!(done, Ok(true)), "{done:?}");
    (0.0, 0.0)
}

/// One round.
#[derive(Default)]
struct Round {
    copy: Took,
    indexes: Took,
    load: Took,
    rest: Took,
}

/// Runs it; the report.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(binary: &Path, records: usize, rounds: usize) -> String {
    let scene = Scene::new();
    let population = Population::new(1, (records / 160).max(10), records);
    eprintln!("generating {records} records");
    let cars = scene.folder().join("cars");
    let bytes = write_cars(&population, &cars);
    let (chunks, stored) = prepare(&population);
    let mut measured = Vec::new();
    for number in 0..rounds {
        let mut round = Round::default();
        scene.fresh("bare");
        let mut client = scene.connect("bare");
        ledger::prepare(&mut client, pg::Waits::SILENT).expect("the ledger");
        let empty = Run {
            id: 0,
            now: String::new(),
            mode: Mode::Fresh,
            phase: Phase::Load,
            collections: None,
            notifications: "all".to_owned(),
            since: None,
        };
        fresh::begin(&mut client, "bsky", &empty, pg::Waits::SILENT).expect("drop indexes");
        client.batch_execute("CHECKPOINT").expect("checkpoint");
        round.copy = scene.time(|| bare_copy(&scene.url("bare"), &chunks));
        round.indexes = scene.time(|| bare_indexes(&scene, "bare"));
        scene.fresh("filled");
        let url = scene.url("filled");
        round.load = scene.time(|| {
            run_command(
                skyfill_run(binary, &url, Some(&cars)).env("SKYFILL_FAILPOINT", "phase"),
                true,
            )
        });
        round.rest = scene.time(|| run_command(&mut skyfill_run(binary, &url, None), false));
        check(&scene, stored);
        eprintln!(
            "round {number}: bare COPY {:.1} s, bare indexes {:.1} s; skyfill load {:.1} s, the rest {:.1} s",
            round.copy.seconds, round.indexes.seconds, round.load.seconds, round.rest.seconds
        );
        measured.push(round);
    }
    let m = |pick: &dyn Fn(&Round) -> f64| median(measured.iter().map(pick));
    let n = stored as f64;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{stored} rows of `record` from {} repos, {} MB of CAR, notifications on both sides; {CONNECTIONS} connections each; medians of \
         {rounds} rounds. Ratios are of the same round.\n",
        population.len(),
        bytes / 1_000_000
    );
    out.push_str("| what | seconds | records/s | client CPU µs a record | PostgreSQL CPU µs a record | client peak MiB |\n|---|---|---|---|---|---|\n");
    let sides: [(&str, fn(&Round) -> Took); 4] = [
        ("(a) bare COPY, no index or constraint", |r| r.copy),
        ("bare index builds", |r| r.indexes),
        ("(b) skyfill's load phase, from CAR files", |r| r.load),
        ("(d) skyfill's indexes, vacuum, finalize", |r| r.rest),
    ];
    for (name, pick) in sides {
        let _ = writeln!(
            out,
            "| {name} | {:.1} | {:.0} | {:.2} | {:.2} | {:.0} |",
            m(&|r| pick(r).seconds),
            n / m(&|r| pick(r).seconds),
            m(&|r| pick(r).client_cpu) / n * 1e6,
            m(&|r| pick(r).server_cpu) / n * 1e6,
            m(&|r| pick(r).peak_mib),
        );
    }
    out.push_str("\n| ratio | measured | wanted |\n|---|---|---|\n");
    let ratios: [(&str, f64, &str); 3] = [
        (
            "PostgreSQL's CPU, (b) to (a)",
            m(&|r| r.load.server_cpu / r.copy.server_cpu),
            "at most 1.1",
        ),
        (
            "wall rate, (b) to (a)",
            m(&|r| r.copy.seconds / r.load.seconds),
            "at least 0.65",
        ),
        (
            "the whole way, (b) + (d) to (a) + bare index builds",
            m(&|r| (r.load.seconds + r.rest.seconds) / (r.copy.seconds + r.indexes.seconds)),
            "at most 1.6",
        ),
    ];
    for (name, measured, wanted) in ratios {
        let _ = writeln!(out, "| {name} | {measured:.2} | {wanted} |");
    }
    out
}

/// Both sides have as many rows; those that finalize made come on top.
fn check(scene: &Scene, stored: u64) {
    for info in appview::table::ALL {
        let count = |database: &str| -> i64 {
            let mut condition = "true";
            if info.name == "notification" {
                condition = "reason NOT IN ('quote', 'reply')";
            }
            scene
                .connect(database)
                .query_one(
                    &format!(
                        "SELECT count(*) FROM bsky.\"{}\" WHERE {condition}",
                        info.name
                    ),
                    &[],
                )
                .expect("count")
                .get(0)
        };
        assert_eq!(count("bare"), count("filled"), "{}", info.name);
        if info.name == "record" {
            assert_eq!(u64::try_from(count("filled")), Ok(stored));
        }
    }
}

/// The load phase at two sizes; the report.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn scale(binary: &Path, sizes: [usize; 2]) -> String {
    let scene = Scene::new();
    let mut out = "| records | seconds | records/s | client CPU µs a record | client peak MiB | of the first |\n|---|---|---|---|---|---|\n".to_owned();
    let mut first: Option<f64> = None;
    for size in sizes {
        eprintln!("generating {size} records");
        let population = Population::new(1, (size / 160).max(10), size);
        let cars = scene.folder().join(format!("cars{size}"));
        write_cars(&population, &cars);
        scene.fresh("filled");
        let url = scene.url("filled");
        let took = scene.time(|| {
            run_command(
                skyfill_run(binary, &url, Some(&cars)).env("SKYFILL_FAILPOINT", "phase"),
                true,
            )
        });
        let stored: i64 = scene
            .connect("filled")
            .query_one("SELECT count(*) FROM bsky.record", &[])
            .expect("count")
            .get(0);
        let rate = stored as f64 / took.seconds;
        let _ = writeln!(
            out,
            "| {stored} | {:.1} | {rate:.0} | {:.2} | {:.0} | {:.2} |",
            took.seconds,
            took.client_cpu / stored as f64 * 1e6,
            took.peak_mib,
            rate / *first.get_or_insert(rate)
        );
        std::fs::remove_dir_all(&cars).expect("remove the CARs");
    }
    out
}
