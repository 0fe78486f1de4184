//! Bytes that the server writes in each phase of a fresh load: pages of tables and indexes, and
//! WAL.
//!
//! The server has few buffers and checkpoints often, so that a table is far larger than the buffers
//! and a checkpoint passes while it is loaded, as in a load of the full network.

use crate::scene::{Scene, run as run_command, skyfill_run, write_cars};
use postgres::Client;
use simnet::Population;
use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

const SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "64MB"),
    ("max_wal_size", "256MB"),
    ("checkpoint_timeout", "30s"),
    ("bgwriter_lru_maxpages", "0"),
    ("autovacuum_naptime", "5s"),
];
/// A fresh load and the phases after it; each ends when the next one begins.
const PHASES: &[&str] = &["load", "freeze and indexes", "vacuum", "finalize"];

/// What the server wrote so far.
#[derive(Clone, Copy)]
struct Written {
    wal: f64,
    images: f64,
    pages: f64,
}

impl Written {
    /// All that is dirty is written before it is counted.
    fn now(client: &mut Client) -> Self {
        client.batch_execute("CHECKPOINT").expect("checkpoint");
        let sql = "SELECT pg_stat_force_next_flush(), w.wal_bytes::float8, w.wal_fpi::float8,
               (b.buffers_checkpoint + b.buffers_clean + b.buffers_backend)::float8 * 8192
             FROM pg_stat_wal w, pg_stat_bgwriter b";
        client.query_one(sql, &[]).expect("flush");
        let row = client.query_one(sql, &[]).expect("count");
        Self {
            wal: row.get(1),
            images: row.get(2),
            pages: row.get(3),
        }
    }
}

/// Runs it; the report.
pub(crate) fn run(binary: &Path, records: usize) -> String {
    let scene = Scene::with(SETTINGS);
    let population = Population::new(1, (records / 160).max(10), records);
    let cars = scene.folder().join("cars");
    write_cars(&population, &cars);
    scene.fresh("filled");
    let (url, mut client) = (scene.url("filled"), scene.connect("filled"));
    let mut out = format!(
        "{records} records, 64 MB of buffers, checkpoints after 256 MB of WAL or 30 s\n\n\
         | phase | seconds | table and index pages written, MB | WAL MB | page images in it |\n|---|---|---|---|---|\n"
    );
    let first = Written::now(&mut client);
    let mut before = first;
    for (number, phase) in PHASES.iter().enumerate() {
        let started = Instant::now();
        let mut command = skyfill_run(binary, &url, (number == 0).then_some(&cars));
        // It ends where it would come to the next phase, so that the next start comes there first.
        match number {
            0 => command.env("SKYFILL_FAILPOINT", "phase"),
            1 | 2 => command.env("SKYFILL_FAILPOINT", "phase=2"),
            _ => &mut command,
        };
        run_command(&mut command, true);
        let seconds = started.elapsed().as_secs_f64();
        let after = Written::now(&mut client);
        row(&mut out, phase, seconds, before, after);
        before = after;
    }
    row(&mut out, "all", 0.0, first, before);
    let size: i64 = client
        .query_one("SELECT pg_database_size(current_database())", &[])
        .expect("size")
        .get(0);
    let _ = writeln!(out, "\nThe database has {} MB.", size / 1_000_000);
    out
}

fn row(out: &mut String, phase: &str, seconds: f64, before: Written, after: Written) {
    let _ = writeln!(
        out,
        "| {phase} | {seconds:.1} | {:.0} | {:.0} | {:.0} |",
        (after.pages - before.pages) / 1e6,
        (after.wal - before.wal) / 1e6,
        after.images - before.images
    );
}
