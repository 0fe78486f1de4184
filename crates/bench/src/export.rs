//! `skyfill export` against DuckDB's own COPY to Parquet, in turns, of the same rows.
//!
//! DuckDB does it twice: with the rows as PostgreSQL sends them, and with the rows and columns of
//! the export from tables of its own, which costs it no reading. It is used through Python, if
//! `SKYFILL_PYTHON` (else `python3`) has the module `duckdb`.

use crate::scene::{Scene, Took, median, run as run_command, skyfill_run, write_cars};
use simnet::Population;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python that has DuckDB.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("SKYFILL_PYTHON").unwrap_or_else(|| "python3".into());
    let has_duckdb = Command::new(&python)
        .args(["-c", "import duckdb"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    has_duckdb.then(|| python.into())
}

fn duckdb(python: &Path, args: &[&str], rows: Stdio) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/duckdb_copy.py");
    let output = Command::new(python)
        .arg(script)
        .args(args)
        .stdin(rows)
        .stderr(Stdio::inherit())
        .output()
        .expect("run DuckDB");
    assert!(output.status.success(), "DuckDB: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("seconds")
}

/// DuckDB's COPY of the rows that PostgreSQL sends as CSV.
fn duckdb_from_postgres(python: &Path, url: &str, to: &str) -> f64 {
    let mut rows = Command::new("psql")
        .args([url, "-qc"])
        .arg("COPY (SELECT uri, cid, did, json, \"indexedAt\" FROM bsky.record) TO STDOUT (FORMAT csv)")
        .stdout(Stdio::piped())
        .spawn()
        .expect("run psql");
    let seconds = duckdb(
        python,
        &["stdin", to],
        rows.stdout.take().expect("a pipe").into(),
    );
    assert!(rows.wait().expect("wait").success(), "psql");
    seconds
}

/// Runs it; the report.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(binary: &Path, records: usize, rounds: usize) -> String {
    let scene = Scene::new();
    let population = Population::new(1, (records / 160).max(10), records);
    eprintln!("generating {records} records");
    let cars = scene.folder().join("cars");
    write_cars(&population, &cars);
    scene.fresh("filled");
    let url = scene.url("filled");
    run_command(&mut skyfill_run(binary, &url, Some(&cars)), false);
    let stored: i64 = scene
        .connect("filled")
        .query_one("SELECT count(*) FROM bsky.record", &[])
        .expect("count")
        .get(0);
    let python = python();
    let folder = |name: &str| scene.folder().join(name);
    let text = |path: &Path| path.to_str().expect("a path").to_owned();
    let mut measured: Vec<(Took, f64, f64)> = Vec::new();
    for round in 0..rounds {
        let (ours, theirs) = (folder("ours"), folder("theirs"));
        for old in [&ours, &theirs] {
            drop(std::fs::remove_dir_all(old));
        }
        let took = scene.time(|| {
            let mut command = Command::new(binary);
            command
                .arg("export")
                .arg(&ours)
                .env("BSKY_DB_POSTGRES_URL", &url);
            run_command(&mut command, false)
        });
        let (mut piped, mut own) = (f64::NAN, f64::NAN);
        if let Some(python) = &python {
            piped = duckdb_from_postgres(python, &url, &text(&theirs));
            drop(std::fs::remove_dir_all(&theirs));
            std::fs::create_dir(&theirs).expect("a folder");
            let args = ["tables", &text(&theirs), &text(&ours)];
            own = duckdb(python, &args, Stdio::null());
        }
        eprintln!(
            "round {round}: export {:.1} s, DuckDB from PostgreSQL {piped:.1} s, from its own tables {own:.1} s",
            took.seconds
        );
        measured.push((took, piped, own));
    }
    let of = |pick: fn(&(Took, f64, f64)) -> f64| median(measured.iter().map(pick));
    let (ours, piped, own) = (of(|m| m.0.seconds), of(|m| m.1), of(|m| m.2));
    let rate = |seconds: f64| stored as f64 / seconds;
    let mut report = format!(
        "{stored} records, median of {rounds} rounds.\n\n| what | seconds | records per second | of export |\n|---|---|---|---|\n"
    );
    for (what, seconds) in [
        ("skyfill export, from PostgreSQL, typed columns", ours),
        (
            "DuckDB COPY of the five columns of `record` as CSV from PostgreSQL",
            piped,
        ),
        (
            "DuckDB COPY of the exported rows and columns, from its own tables",
            own,
        ),
    ] {
        writeln!(
            report,
            "| {what} | {seconds:.1} | {:.0} | {:.2} |",
            rate(seconds),
            seconds / ours
        )
        .expect("a string");
    }
    writeln!(
        report,
        "\nexport: {:.1} microseconds of CPU per record in skyfill, {:.1} in PostgreSQL; {:.0} MiB at most",
        of(|m| m.0.client_cpu) / stored as f64 * 1e6,
        of(|m| m.0.server_cpu) / stored as f64 * 1e6,
        of(|m| m.0.peak_mib)
    )
    .expect("a string");
    report
}
