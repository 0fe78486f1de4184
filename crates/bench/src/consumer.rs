//! A stream of mixed records in the line form through `skyfill consumer`, against a bare binary
//! COPY of the same rows.
//!
//! Both sides write into the same tables with all their indexes, over as many connections, on one
//! server, in turns; each result is the median of the rounds. The bare side only sends buffers that
//! were prepared before.

use crate::cpu::{self, ServerCpu};
use crate::{bare, stream};
use postgres::{Client, NoTls};
use std::path::Path;
use std::time::Instant;

/// What one round of one side took.
#[derive(Clone, Copy)]
struct Round {
    seconds: f64,
    client_cpu: f64,
    server_cpu: f64,
    client_peak_kib: u64,
}

/// A side and its rounds.
struct Side {
    name: String,
    rounds: Vec<Round>,
}

/// Runs it; the report.
pub(crate) fn run(binary: &Path, records: usize, rounds: usize) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .expect("open it");
    let server = pgbox::start(&folder.path().join("skyfill-data")).expect("PostgreSQL");
    let mut client = Client::connect(&server.url(), NoTls).expect("connect");
    appview::migrate::migrate(&mut client, "bsky").expect("migrate");
    eprintln!("generating {records} records");
    let stream = stream::generate(records);
    let lines = folder.path().join("lines");
    std::fs::write(&lines, &stream.lines).expect("write the lines");
    let server_cpu = ServerCpu::of(server.postmaster());
    let mut sides = Vec::new();
    for connections in [1usize, 2] {
        let mut bare = Side {
            name: format!("bare COPY, {connections} connections"),
            rounds: Vec::new(),
        };
        let mut small = Side {
            name: format!("consumer, batch 1000, {connections} connections"),
            rounds: Vec::new(),
        };
        let mut large = Side {
            name: format!("consumer, batch 20000, {connections} connections"),
            rounds: Vec::new(),
        };
        for round in 0..rounds {
            for side in [&mut bare, &mut small, &mut large] {
                empty(&mut client);
                let before = server_cpu.seconds();
                let started = Instant::now();
                let (client_cpu, client_peak_kib) = match side.name.split([',', ' ']).next() {
                    Some("bare") => bare::run(&server.url(), &stream, connections),
                    _ => {
                        let batch = if side.name.contains("20000") {
                            20_000
                        } else {
                            1000
                        };
                        consume(
                            binary,
                            &server.url(),
                            folder.path(),
                            &lines,
                            batch,
                            connections,
                        )
                    }
                };
                let seconds = started.elapsed().as_secs_f64();
                check(&mut client, &stream);
                let result = Round {
                    seconds,
                    client_cpu,
                    server_cpu: server_cpu.seconds() - before,
                    client_peak_kib,
                };
                eprintln!("round {round}, {}: {seconds:.2} s", side.name);
                side.rounds.push(result);
            }
        }
        sides.push([bare, small, large]);
    }
    drop((client, server));
    pgbox::stop(&folder.path().join("skyfill-data")).expect("stop PostgreSQL");
    report(records, rounds, &stream, &sides)
}

/// Empties the tables, and lets the server write out what it has, so that no round pays for the one
/// before.
fn empty(client: &mut Client) {
    let tables: Vec<String> = appview::table::ALL
        .iter()
        .map(|table| format!("bsky.\"{}\"", table.name))
        .collect();
    client
        .batch_execute(&format!(
            "TRUNCATE bsky.duplicate_record, {}",
            tables.join(", ")
        ))
        .expect("truncate");
    client.batch_execute("CHECKPOINT").expect("checkpoint");
}

/// Both sides have to end with the same rows.
fn check(client: &mut Client, stream: &stream::Stream) {
    for (table, rows) in &stream.rows {
        let sql = format!(
            "SELECT count(*) FROM bsky.\"{}\"",
            appview::table::ALL[*table].name
        );
        let found: i64 = client.query_one(&sql, &[]).expect("count").get(0);
        assert_eq!(
            u64::try_from(found),
            Ok(*rows),
            "rows of {}",
            appview::table::ALL[*table].name
        );
    }
}

/// Sends the lines to a consumer and waits until it has committed them. CPU seconds and peak memory
/// of the consumer.
fn consume(
    binary: &Path,
    url: &str,
    folder: &Path,
    lines: &Path,
    batch: usize,
    connections: usize,
) -> (f64, u64) {
    let socket = folder.join("s");
    let mut child = std::process::Command::new(binary)
        .arg("consumer")
        .arg(&socket)
        .args([
            "--batch-size",
            &batch.to_string(),
            "--max-db-connections",
            &connections.to_string(),
        ])
        .arg("--rejects")
        .arg(folder.join("rejects"))
        .env("BSKY_DB_POSTGRES_URL", url)
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("start the consumer");
    let mut stream = loop {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    std::io::copy(
        &mut std::fs::File::open(lines).expect("open the lines"),
        &mut stream,
    )
    .expect("send");
    stream
        .shutdown(std::net::Shutdown::Write)
        .expect("end the stream");
    std::io::Read::read_to_end(&mut stream, &mut Vec::new()).expect("wait for the commit");
    let spent = (cpu::of_process(child.id()), cpu::peak_kib(child.id()));
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("stop the consumer");
    assert!(
        child.wait().expect("wait").success(),
        "the consumer refused something"
    );
    spent
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[allow(clippy::cast_precision_loss)]
fn report(records: usize, rounds: usize, stream: &stream::Stream, sides: &[[Side; 3]]) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    let rows: u64 = stream.rows.iter().map(|(_, rows)| rows).sum();
    let _ = writeln!(
        out,
        "{} indexed records of {records} generated, {rows} rows, {} MB of lines; median of {rounds} rounds, spread in brackets.\n",
        stream.indexed,
        stream.lines.len() / 1_000_000
    );
    out.push_str("| side | records/s | of bare COPY | client CPU s | server CPU s | client peak MB |\n|---|---|---|---|---|---|\n");
    for group in sides {
        let rate = |side: &Side| {
            median(
                side.rounds
                    .iter()
                    .map(|r| stream.indexed as f64 / r.seconds),
            )
        };
        let bare = rate(&group[0]);
        for side in group {
            let seconds: Vec<f64> = side
                .rounds
                .iter()
                .map(|r| stream.indexed as f64 / r.seconds)
                .collect();
            let (low, high) = seconds
                .iter()
                .fold((f64::MAX, 0f64), |(l, h), s| (l.min(*s), h.max(*s)));
            let _ = writeln!(
                out,
                "| {} | {:.0} [{low:.0}, {high:.0}] | {:.2} | {:.1} | {:.1} | {:.0} |",
                side.name,
                rate(side),
                rate(side) / bare,
                median(side.rounds.iter().map(|r| r.client_cpu)),
                median(side.rounds.iter().map(|r| r.server_cpu)),
                median(
                    side.rounds
                        .iter()
                        .map(|r| r.client_peak_kib as f64 / 1024.0)
                ),
            );
        }
    }
    out
}
