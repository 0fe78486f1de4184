//! Pages that a record costs in a database that is twenty times as large as the server's cache,
//! beside one of a tenth of the size with the same cache.

use crate::costs::{self, Loaded};
use crate::scene::Scene;
use plan::Phase;
use std::fmt::Write;
use std::path::Path;

/// How many times the larger database is as large as the cache.
const TIMES: usize = 20;
/// Bytes of a record in heaps and indexes, about (`crates/plan/costs.tsv`).
const RECORD: usize = 2200;

/// Bytes of a page.
const PAGE: f64 = 8192.0;

/// Loads both with the same cache; the report.
pub(crate) fn run(binary: &Path, records: usize) -> String {
    let megabytes = (records * RECORD / TIMES / 1_000_000).max(1);
    let scene = Scene::with(&[("shared_buffers", &format!("{megabytes}MB"))]);
    let small = costs::load(&scene, binary, records / 10);
    let large = costs::load(&scene, binary, records);
    let times = |loaded: &Loaded| loaded.bytes() / (megabytes as f64 * 1024.0 * 1024.0);
    let mut out = format!(
        "### Pages that are read into a cache of {megabytes} MB: a database {:.1} times as large, and one {:.1} times\n\n\
         To read all heaps of the larger one once would be {:.3} pages a record.\n\n\
         | phase | pages read a record, {:.0} records | {:.0} records | ratio |\n|---|---|---|---|\n",
        times(&small),
        times(&large),
        large.heap() / PAGE / large.records,
        small.records,
        large.records
    );
    for phase in Phase::ALL
        .into_iter()
        .filter(|phase| *phase != Phase::Identities)
    {
        let reads = |loaded: &Loaded| loaded.of(phase).reads / loaded.records;
        let (few, many) = (reads(&small), reads(&large));
        let wanted = match phase {
            Phase::Finalize | Phase::Verify => " (wanted: at most 1.5)",
            _ => "",
        };
        let _ = writeln!(
            out,
            "| {} | {few:.3} | {many:.3} | {:.2}{wanted} |",
            phase.word(),
            many / few
        );
    }
    out
}
