//! What skyfill's own work costs on one core: repos in memory to rows that go nowhere, and beside
//! it SHA-256 alone over the same blocks.

use atrepo::{BlockIndex, Repo, RepoError, mst};
use load::{Choice, Chunk, Costs, Encoder};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use simnet::Population;
use std::fmt::Write;
use std::hint::black_box;

/// CPU seconds of this thread.
#[allow(clippy::cast_precision_loss)]
fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn timed<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = cpu_seconds();
    let result = work();
    (cpu_seconds() - before, result)
}

/// One round over all repos.
struct Round {
    /// SHA-256 over every block.
    hash: f64,
    /// Index of blocks with all hashes checked, and the walk over the tree.
    walk: f64,
    /// All: hash, tree, DAG-CBOR, lexicons, rows, encoding.
    all: f64,
    records: u64,
}

fn round(cars: &[(String, Vec<u8>)], encoder: &mut Encoder) -> Round {
    let (hash, ()) = timed(|| {
        for (_, car) in cars {
            let (_, blocks) = atrepo::Blocks::open(car).expect("a CAR");
            for block in blocks {
                black_box(Sha256::digest(block.expect("a block").2));
            }
        }
    });
    let (walk, ()) = timed(|| {
        for (_, car) in cars {
            let (root, index) = BlockIndex::build(car).expect("a CAR");
            let commit =
                atrepo::Commit::parse(index.get(&root).expect("a commit")).expect("a commit");
            let mut entries = 0u64;
            mst::walk(
                commit.data,
                |cid| index.get(cid),
                |leaf| -> Result<(), RepoError> {
                    index.get(&leaf.cid).ok_or(RepoError::Missing(leaf.cid))?;
                    entries += 1;
                    Ok(())
                },
            )
            .expect("a tree");
            black_box(entries);
        }
    });
    let (all, records) = timed(|| {
        let mut records = 0;
        let mut sink = |mut chunk: Chunk| {
            records += chunk.records();
            black_box(chunk.bytes());
            chunk.clear(8 << 20);
            Ok(chunk)
        };
        for (did, car) in cars {
            let repo = Repo::open(car, did).expect("a repo");
            encoder
                .add(
                    &repo,
                    load::Origin::default(),
                    &mut Costs {
                        watch: &mut |_| Ok(()),
                        keys: &mut |_| Ok(()),
                    },
                    &mut |_| Ok(None),
                    &mut sink,
                )
                .expect("rows");
        }
        encoder.flush(&mut sink).expect("rows");
        records
    });
    Round {
        hash,
        walk,
        all,
        records,
    }
}

/// The columns of btree indexes, as they are in the official schema: all but texts and JSON.
fn indexed() -> Vec<(String, String)> {
    let unindexed = [
        "json",
        "text",
        "description",
        "displayName",
        "alt",
        "title",
        "langs",
        "tags",
    ];
    appview::table::ALL
        .iter()
        .flat_map(|info| info.columns.iter().map(|column| (info.name, column.name)))
        .filter(|(_, column)| !unindexed.contains(column))
        .map(|(table, column)| (table.to_owned(), column.to_owned()))
        .collect()
}

/// Runs it; the report.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(records: usize, rounds: usize) -> String {
    let population = Population::new(1, (records / 160).max(10), records);
    let cars: Vec<(String, Vec<u8>)> = (0..population.len())
        .map(|account| (population.did(account), population.car(account)))
        .collect();
    let bytes: usize = cars.iter().map(|(_, car)| car.len()).sum();
    // One for all rounds, as a thread of skyfill has one for all repos.
    let mut encoder = Encoder::new(Choice::ALL, 1_793_000_000_000, 8 << 20, &indexed());
    let mut measured: Vec<Round> = (0..rounds).map(|_| round(&cars, &mut encoder)).collect();
    let mut median = |pick: fn(&Round) -> f64| {
        measured.sort_by(|a, b| pick(a).total_cmp(&pick(b)));
        pick(&measured[measured.len() / 2])
    };
    let (hash, walk, all) = (median(|r| r.hash), median(|r| r.walk), median(|r| r.all));
    let loaded = measured[0].records as f64;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{loaded} rows of `record` from {} repos, {} MB of CAR; CPU of one thread, medians of {rounds} rounds.\n",
        cars.len(),
        bytes / 1_000_000
    );
    out.push_str("| what | CPU s | µs a record | of SHA-256 alone |\n|---|---|---|---|\n");
    for (name, seconds) in [
        ("SHA-256 alone over the same blocks", hash),
        ("hash and MST walk", walk),
        ("hash, walk, DAG-CBOR, lexicons, rows, encoding", all),
    ] {
        let _ = writeln!(
            out,
            "| {name} | {seconds:.2} | {:.2} | {:.2} |",
            seconds / loaded * 1e6,
            seconds / hash
        );
    }
    out
}
