//! What a record costs in each phase, table and index, at several sizes: the table that `skyfill
//! plan` reads, and how well it predicts a size that it was not made from.

use crate::cpu;
use crate::phases::{self, Spent};
use crate::scene::{Scene, write_cars};
use load::freeze;
use load::indexes::Resources;
use plan::{
    Basis, Choice, Costs, Growth, Handles, IndexCost, Inputs, Machine, Phase, PhaseCost, Plan,
    Sizes, TableCost, Work,
};
use postgres::Client;
use simnet::Population;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Connections of the runs.
const CONNECTIONS: usize = 2;
/// Where the table goes, from the root of the repository.
const TABLE: &str = "crates/plan/costs.tsv";
/// The schemas whose tables are measured: the AppView's, and skyfill's own.
const SCHEMAS: [&str; 2] = ["bsky", "skyfill"];

/// Bytes and rows of a database.
#[derive(Default)]
struct Measured {
    /// By table: rows, bytes of the heap.
    tables: BTreeMap<String, (f64, f64)>,
    /// By table and index: bytes.
    indexes: BTreeMap<(String, String), f64>,
}

/// One load.
pub(crate) struct Loaded {
    pub(crate) records: f64,
    repos: usize,
    spent: Vec<(Phase, Spent)>,
    sizes: Measured,
}

impl Loaded {
    pub(crate) fn of(&self, phase: Phase) -> Spent {
        let found = self.spent.iter().find(|(known, _)| *known == phase);
        found.map_or_else(Spent::default, |(_, spent)| *spent)
    }

    /// Bytes of all tables.
    pub(crate) fn heap(&self) -> f64 {
        self.sizes.tables.values().map(|(_, heap)| heap).sum()
    }

    /// Bytes of all tables and indexes.
    pub(crate) fn bytes(&self) -> f64 {
        self.heap() + self.sizes.indexes.values().sum::<f64>()
    }

    /// Bytes that were left to be frozen, at most.
    fn unfrozen(&self, sizes: &Sizes) -> f64 {
        let heaps = self.sizes.tables.values().map(|(_, heap)| *heap);
        heaps.map(|heap| plan::unfrozen(heap, sizes)).sum()
    }
}

/// Measures the sizes; the last one is predicted from the others. The report, with the table.
pub(crate) fn run(binary: &Path, sizes: &[usize]) -> String {
    let Some((last, fitted)) = sizes.split_last().filter(|(_, fitted)| !fitted.is_empty()) else {
        return "two sizes at least\n".to_owned();
    };
    let scene = Scene::new();
    let loaded: Vec<Loaded> = fitted.iter().map(|n| load(&scene, binary, *n)).collect();
    let checked = load(&scene, binary, *last);
    let mut client = scene.connect("filled");
    let inputs = inputs(&mut client, &checked);
    let costs = fit(&loaded, about(&mut client, &loaded), &inputs.sizes);
    let mut out = String::new();
    by_size(&mut out, &loaded, &checked);
    prediction(&mut out, &Plan::of(&costs, &inputs), &checked);
    let _ = writeln!(out, "\nThe table:\n\n```\n{}```", costs.to_text());
    match std::fs::write(TABLE, costs.to_text()) {
        Ok(()) => eprintln!("wrote {TABLE}"),
        Err(error) => eprintln!("{TABLE}: {error}; the table is in the report"),
    }
    out
}

/// A whole run over so many generated records.
pub(crate) fn load(scene: &Scene, binary: &Path, records: usize) -> Loaded {
    eprintln!("generating {records} records");
    let population = Population::new(1, (records / 160).max(10), records);
    let cars = scene.folder().join(format!("cars{records}"));
    write_cars(&population, &cars);
    scene.fresh("filled");
    let mut command = Command::new(binary);
    command
        .args(["run", "--handles", "skip", "--now", "2026-11-01T00:00:00Z"])
        .args(["--max-db-connections", &CONNECTIONS.to_string()])
        .arg("--from-cars")
        .arg(&cars)
        .env("BSKY_DB_POSTGRES_URL", scene.url("filled"));
    let spent = phases::run(scene, "filled", &mut command);
    std::fs::remove_dir_all(&cars).expect("remove the CARs");
    let sizes = sizes_of(&mut scene.connect("filled"));
    let stored = sizes.tables.get("record").map_or(0.0, |(rows, _)| *rows);
    eprintln!("{stored} records: {spent:?}");
    Loaded {
        records: stored,
        repos: population.len(),
        spent,
        sizes,
    }
}

/// All tables with their rows and bytes, and all indexes.
#[allow(clippy::cast_precision_loss)]
fn sizes_of(client: &mut Client) -> Measured {
    let mut sizes = Measured::default();
    let name = |schema: String, table: String| match schema.as_str() {
        "bsky" => table,
        other => format!("{other}.{table}"),
    };
    let tables = "SELECT n.nspname::text, c.relname::text, pg_table_size(c.oid)::float8 FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY($1) AND c.relkind = 'r' ORDER BY 1, 2";
    for row in client.query(tables, &[&&SCHEMAS[..]]).expect("tables") {
        let (schema, table): (String, String) = (row.get(0), row.get(1));
        let rows: i64 = client
            .query_one(
                &format!("SELECT count(*) FROM \"{schema}\".\"{table}\""),
                &[],
            )
            .expect("count")
            .get(0);
        if rows > 0 {
            let bytes = (rows as f64, row.get(2));
            sizes.tables.insert(name(schema, table), bytes);
        }
    }
    let indexes = "SELECT n.nspname::text, t.relname::text, i.relname::text, pg_relation_size(i.oid)::float8
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
         JOIN pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = ANY($1)";
    for row in client.query(indexes, &[&&SCHEMAS[..]]).expect("indexes") {
        let table = name(row.get(0), row.get(1));
        if sizes.tables.contains_key(&table) {
            sizes.indexes.insert((table, row.get(2)), row.get(3));
        }
    }
    sizes
}

fn about(client: &mut Client, loaded: &[Loaded]) -> Vec<(String, String)> {
    let row = client
        .query_one(
            "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD'), split_part(current_setting('server_version'), ' ', 1)",
            &[],
        )
        .expect("date and version");
    let commit = Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let sizes: Vec<String> = loaded
        .iter()
        .map(|loaded| format!("{:.0}", loaded.records))
        .collect();
    let version: String = row.get(1);
    let all = loaded.iter().flat_map(|one| &one.spent);
    let (others, time) = all.fold((0.0, 0.0), |(others, time), (_, spent)| {
        (others + spent.others, time + spent.seconds * cores())
    });
    let others = format!(
        "other processes took {:.0} % of the cores meanwhile",
        others / time * 100.0
    );
    [
        ("date", row.get(0)),
        ("commit", commit.unwrap_or_default()),
        ("machine", cpu::machine()),
        ("server", format!("PostgreSQL {version}")),
        ("records", sizes.join(", ")),
        ("beside", others),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// How a phase's CPU time grows.
fn growth(phase: Phase) -> Growth {
    match phase {
        Phase::Indexes => Growth::Sorting,
        Phase::Vacuum => Growth::Freezing,
        _ => Growth::Linear,
    }
}

/// The costs that fit the loads best: sums over sums, so that the largest counts most.
fn fit(loaded: &[Loaded], about: Vec<(String, String)>, sizes: &Sizes) -> Costs {
    let cores = cores();
    let phases = Phase::ALL
        .into_iter()
        .filter(|phase| *phase != Phase::Identities);
    let phases = phases.map(|phase| {
        let growth = growth(phase);
        let records: f64 = loaded.iter().map(|one| one.records).sum();
        let units: f64 = loaded
            .iter()
            .map(|one| growth.units(one.records, one.unfrozen(sizes)))
            .sum();
        let sum =
            |pick: fn(Spent) -> f64| loaded.iter().map(|one| pick(one.of(phase))).sum::<f64>();
        let largest = loaded
            .last()
            .map_or_else(Spent::default, |one| one.of(phase));
        PhaseCost {
            phase,
            growth,
            client: sum(|spent| spent.client) / units * 1e6,
            server: sum(|spent| spent.server) / units * 1e6,
            busy: largest.busy(cores),
            wal: sum(|spent| spent.wal) / records,
            reads: sum(|spent| spent.reads) / records,
            looks: sum(|spent| spent.looks) / records,
        }
    });
    let Some(last) = loaded.last() else {
        return Costs::default();
    };
    let tables = last.sizes.tables.keys().map(|name| {
        let at = |one: &Loaded| Some((one.records, *one.sizes.tables.get(name)?));
        let measured: Vec<(f64, (f64, f64))> = loaded.iter().filter_map(at).collect();
        let heaps: Vec<(f64, f64)> = measured.iter().map(|(n, (_, heap))| (*n, *heap)).collect();
        let rows: f64 = measured.iter().map(|(_, (rows, _))| rows).sum();
        TableCost {
            name: name.clone(),
            rows: rows / measured.iter().map(|(n, _)| n).sum::<f64>(),
            heap: TableCost::per_record(&heaps),
        }
    });
    let indexes = last.sizes.indexes.keys().map(|key| {
        let at = |one: &Loaded| Some((one.records, *one.sizes.indexes.get(key)?));
        let measured: Vec<(f64, f64)> = loaded.iter().filter_map(at).collect();
        IndexCost {
            table: key.0.clone(),
            name: key.1.clone(),
            bytes: IndexCost::per_record(&measured),
        }
    });
    let tables: Vec<TableCost> = tables.filter(|table| table.heap > 0.0).collect();
    Costs {
        about,
        phases: phases.collect(),
        indexes: indexes
            .filter(|index| {
                index.bytes > 0.0 && tables.iter().any(|table| table.name == index.table)
            })
            .collect(),
        tables,
    }
}

#[allow(clippy::cast_precision_loss)]
fn cores() -> f64 {
    process::Machine::this().cores as f64
}

/// The load that is predicted, as the plan's inputs.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn inputs(client: &mut Client, checked: &Loaded) -> Inputs {
    let here = process::Machine::this();
    let builds = Resources::of_server(client, Some(here), CONNECTIONS, None);
    let builds = builds.expect("the server's settings");
    let row = client
        .query_one(
            "SELECT pg_size_bytes(current_setting('shared_buffers')), pg_size_bytes(current_setting('max_wal_size'))",
            &[],
        )
        .expect("settings");
    let bytes = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    Inputs {
        work: Work {
            repos: checked.repos as u64,
            records: checked.records as u64,
            hosts: 0,
            fullest: None,
            basis: Basis::Named,
        },
        machine: Machine {
            cores: here.cores,
            memory: here.memory,
            free: None,
            disk_rate: None,
            is_shared: true,
        },
        sizes: Sizes {
            threads: here.cores,
            connections: CONNECTIONS,
            slots: 1,
            memory: 1 << 30,
            builds: builds.builds,
            build_memory: builds.memory,
            build_processes: builds.processes,
            shared_buffers: bytes(0),
            max_wal: bytes(1),
            freeze_step: freeze::step(bytes(0)),
            freeze_part: freeze::PART_OF_TABLE,
            verifiers: here.cores,
            look_ups: 1,
            directory_rate: 1.0,
            export_from: 0,
            claims_from: engine::identities::MANY,
        },
        choice: Choice {
            handles: Handles::Skipped,
            verifies: true,
            notifies: true,
        },
    }
}

fn by_size(out: &mut String, loaded: &[Loaded], checked: &Loaded) {
    let cores = cores();
    out.push_str(
        "Whole runs from CAR files, one round each, 2 connections, private server. \"Alone\" is the time without the share of the cores that other processes took meanwhile.\n\n\
         | records | phase | seconds | alone | client CPU µs a record | PostgreSQL CPU µs a record | of the cores' time | WAL bytes a record | pages read a record | pages looked at a record |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for one in loaded.iter().chain([checked]) {
        for (phase, spent) in &one.spent {
            let per = |value: f64| value / one.records;
            let _ = writeln!(
                out,
                "| {:.0} | {} | {:.1} | {:.1} | {:.2} | {:.2} | {:.2} | {:.0} | {:.3} | {:.2} |",
                one.records,
                phase.word(),
                spent.seconds,
                spent.alone(cores),
                per(spent.client) * 1e6,
                per(spent.server) * 1e6,
                spent.busy(cores),
                per(spent.wal),
                per(spent.reads),
                per(spent.looks),
            );
        }
    }
    out.push_str("\n| records | rows a record | heap bytes a record | index bytes a record |\n|---|---|---|---|\n");
    for one in loaded.iter().chain([checked]) {
        let rows: f64 = one.sizes.tables.values().map(|(rows, _)| rows).sum();
        let heap: f64 = one.sizes.tables.values().map(|(_, heap)| heap).sum();
        let index: f64 = one.sizes.indexes.values().sum();
        let _ = writeln!(
            out,
            "| {:.0} | {:.2} | {:.0} | {:.0} |",
            one.records,
            rows / one.records,
            heap / one.records,
            index / one.records
        );
    }
}

fn prediction(out: &mut String, plan: &Plan, checked: &Loaded) {
    let cores = cores();
    let _ = writeln!(
        out,
        "\nPredicted at {:.0} records, from the smaller sizes alone:\n\n| what | predicted | measured | ratio | wanted |\n|---|---|---|---|---|",
        checked.records
    );
    let mut line = |what: &str, predicted: f64, measured: f64, unit: &str, wanted: &str| {
        let _ = writeln!(
            out,
            "| {what} | {predicted:.1} {unit} | {measured:.1} {unit} | {:.2} | {wanted} |",
            predicted / measured
        );
    };
    let mut alone = 0.0;
    for time in &plan.phases {
        let measured = checked.of(time.phase).alone(cores);
        alone += measured;
        let what = format!("{}, alone", time.phase.word());
        line(&what, time.seconds(), measured, "s", "");
    }
    line(
        "all phases, alone",
        plan.seconds(),
        alone,
        "s",
        "0.75 to 1.25",
    );
    let mb = 1e6;
    let heap: f64 = checked.sizes.tables.values().map(|(_, heap)| heap).sum();
    let index: f64 = checked.sizes.indexes.values().sum();
    line(
        "heap",
        plan.disk.heap() / mb,
        heap / mb,
        "MB",
        "0.90 to 1.10",
    );
    line(
        "indexes",
        plan.disk.indexes() / mb,
        index / mb,
        "MB",
        "0.90 to 1.10",
    );
    let wal: f64 = checked.spent.iter().map(|(_, spent)| spent.wal).sum();
    line(
        "WAL",
        plan.disk.all_wal() / mb,
        wal / mb,
        "MB",
        "0.90 to 1.10",
    );
}
