//! A plan as people and programs read it: one page, two lines at the beginning of a run, JSON.

use crate::costs::Costs;
use crate::disk::TableSize;
use crate::inputs::{Basis, Inputs};
use crate::model::{Bound, PhaseTime, Plan};
use crate::what_if::{Change, changes};
use observe::units::{count, counted, rate, rough};
use observe::{bytes, printable};
use serde_json::{Value, json};
use std::time::Duration;

/// Tables that are named; the others are added up.
const TABLES: usize = 8;
/// Where the assumptions are explained.
const ASSUMPTIONS: &str = "docs/explanation/plan.md";

/// A setting of PostgreSQL's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// What it is now.
    pub found: String,
    /// What a better value gains.
    pub gains: Option<String>,
    /// The line that changes it.
    pub change: Option<String>,
}

/// All that is on the page.
pub struct Page<'p> {
    /// The plan.
    pub plan: &'p Plan,
    /// The costs that it was calculated from.
    pub costs: &'p Costs,
    /// PostgreSQL, for people: its version and the database, or that there is none.
    pub server: String,
    /// The settings that matter.
    pub settings: &'p [Setting],
    /// The folder of the database, if its disk was looked at.
    pub folder: Option<String>,
    /// Whether only a part of each repo is loaded.
    pub is_part: bool,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Page<'_> {
    /// The page, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.head();
        lines.push(String::new());
        lines.extend(self.times());
        lines.push(String::new());
        lines.extend(self.disk());
        lines.push(String::new());
        lines.extend(self.memory());
        lines.push(String::new());
        lines.extend(self.settings());
        lines.extend(self.changes());
        lines.push(String::new());
        lines.extend(self.foot());
        lines
    }

    fn head(&self) -> Vec<String> {
        let Inputs { work, machine, .. } = &self.plan.inputs;
        let most = if self.is_part { "at most " } else { "" };
        let basis = match work.basis {
            Basis::FullNetwork => "the full network, as assumed",
            Basis::Given => "hosts in proportion to the full network",
            Basis::Ledger => "pending in the ledger; records as in average repos",
            Basis::LedgerAndLoaded => {
                "pending in the ledger; records as in the repos loaded so far"
            }
            Basis::Named => "named; records as in average repos",
        };
        let mut lines = vec![
            format!(
                "{}, {most}{}, {} ({basis})",
                counted(work.repos, "repo"),
                counted(work.records, "record"),
                counted(work.hosts, "host")
            ),
            format!(
                "{}, {} of memory; {}",
                counted(machine.cores as u64, "core"),
                bytes(machine.memory),
                self.server
            ),
        ];
        if !machine.is_shared {
            lines.push(
                "PostgreSQL is on another machine, which is taken to have as many cores".to_owned(),
            );
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines
    }

    fn times(&self) -> Vec<String> {
        let mut lines = vec![row("phase", "time", "bound by")];
        for time in &self.plan.phases {
            let bound = time.bound().map_or_else(
                || "done beside the load".to_owned(),
                |bound| bound_text(bound, time, &self.plan.inputs, self.costs),
            );
            lines.push(row(time.phase.label(), &span(time.seconds()), &bound));
        }
        lines.push(row(
            "total",
            &span(self.plan.seconds()),
            "one after the other",
        ));
        if let Some(seconds) = self.plan.seconds_of_handles_later() {
            let look_ups = self.plan.inputs.sizes.look_ups;
            lines.push(row(
                "handles",
                &span(seconds),
                &format!("after that, beside the serving AppView: {look_ups} are verified at once"),
            ));
        }
        lines
    }

    fn disk(&self) -> Vec<String> {
        let disk = &self.plan.disk;
        let machine = &self.plan.inputs.machine;
        let room = match (machine.free, self.plan.lacks()) {
            (None, _) => "free disk unknown (--disk)".to_owned(),
            (Some(free), None) => format!("{} free{}: enough", bytes(free), self.at_folder()),
            (Some(free), Some(lacks)) => format!(
                "{} free{}: {} too little",
                bytes(free),
                self.at_folder(),
                bytes(whole(lacks))
            ),
        };
        let mut lines = vec![
            row("disk", &bytes(whole(disk.at_once())), &room),
            row(
                "  at the end",
                &bytes(whole(disk.at_the_end())),
                &counted(whole(disk.rows()), "row"),
            ),
        ];
        for table in disk.tables.iter().take(TABLES) {
            let parts = format!(
                "{} of heap, {} of indexes",
                bytes(whole(table.heap)),
                bytes(whole(table.indexes))
            );
            let name = format!("    {}", table.name);
            lines.push(row(&name, &bytes(whole(table.bytes())), &parts));
        }
        let others = disk.tables.iter().skip(TABLES);
        let rest: f64 = others.clone().map(TableSize::bytes).sum();
        let name = format!("    {} others", others.count());
        lines.push(row(&name, &bytes(whole(rest)), ""));
        lines.push(row(
            "  sorting",
            &bytes(whole(disk.sorting)),
            "more, at most, while indexes are built",
        ));
        lines.push(row(
            "  WAL",
            &bytes(whole(disk.wal_kept)),
            &format!(
                "at once (max_wal_size); {} are written in all",
                bytes(whole(disk.all_wal()))
            ),
        ));
        lines.push(row("  writes and reads", "", &self.traffic()));
        lines
    }

    fn traffic(&self) -> String {
        let busiest = self.plan.phases.iter().filter(|time| time.seconds() > 0.0);
        let pace = |time: &PhaseTime| time.disk_bytes / time.seconds();
        let busiest = busiest.max_by(|a, b| pace(a).total_cmp(&pace(b)));
        let most = busiest.map_or_else(String::new, |time| {
            format!(
                "at most {} per second, in {}; ",
                bytes(whole(pace(time))),
                time.phase.label()
            )
        });
        match self.plan.inputs.machine.disk_rate {
            Some(rate) => format!("{most}the disk has {} per second", bytes(rate)),
            None => format!("{most}the disk's rate is not counted (--measure-disk, --disk-rate)"),
        }
    }

    fn at_folder(&self) -> String {
        let folder = self.folder.as_ref();
        folder.map_or_else(String::new, |folder| format!(" at {}", printable(folder)))
    }

    fn memory(&self) -> Vec<String> {
        let sizes = &self.plan.inputs.sizes;
        let all = sizes.memory + sizes.build_memory + sizes.shared_buffers;
        let rest = self.plan.inputs.machine.memory.saturating_sub(all);
        vec![
            row(
                "memory",
                &bytes(all),
                &format!("{} are left for the file cache", bytes(rest)),
            ),
            row("  skyfill", &bytes(sizes.memory), "a bound (--memory)"),
            row(
                "  index builds",
                &bytes(sizes.build_memory),
                "a bound, in PostgreSQL (--server-memory)",
            ),
            row("  shared_buffers", &bytes(sizes.shared_buffers), ""),
        ]
    }

    fn settings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for setting in self.settings {
            let name = printable(&setting.name);
            let gains = setting.gains.as_ref().map(|gains| format!("; {gains}"));
            lines.push(format!(
                "{name}: {}{}",
                printable(&setting.found),
                gains.unwrap_or_default()
            ));
            if let Some(change) = &setting.change {
                lines.push(format!("  -> {}", printable(change)));
            }
        }
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines
    }

    fn changes(&self) -> Vec<String> {
        let changes = changes(self.costs, &self.plan.inputs);
        if changes.is_empty() {
            return vec!["nothing that skyfill knows of would save much".to_owned()];
        }
        let line = |change: &Change| {
            let time = format!("{} less", span(change.seconds));
            let size = format!("{} of disk less", bytes(whole(change.bytes)));
            let saved = match (change.seconds >= 1.0, change.bytes >= 1.0) {
                (true, true) => format!("{time}, {size}"),
                (true, false) => time,
                (false, _) => size,
            };
            format!("  {}: {saved}", change.what)
        };
        let mut lines = vec!["what would change it".to_owned()];
        lines.extend(changes.iter().map(line));
        lines
    }

    fn foot(&self) -> Vec<String> {
        let said = |name| self.costs.said(name);
        vec![
            format!(
                "costs per record: measured on {} at commit {} with {}, on {}",
                said("date"),
                said("commit"),
                said("server"),
                said("machine")
            ),
            format!("{}; what this rests on: {ASSUMPTIONS}", said("beside")),
        ]
    }

    /// The total, in two lines.
    #[must_use]
    pub fn two_lines(&self) -> [String; 2] {
        let work = &self.plan.inputs.work;
        let most = if self.is_part { "at most " } else { "" };
        let size = format!(
            "estimate for {} on {}, if they are average ones: {most}{}, {most}{} of disk",
            counted(work.repos, "repo"),
            counted(work.hosts, "host"),
            counted(work.records, "record"),
            bytes(whole(self.plan.disk.at_once()))
        );
        let part = |time: &PhaseTime| format!("{} {}", time.phase.label(), span(time.seconds()));
        let parts: Vec<String> = self.plan.phases.iter().map(part).collect();
        let load = self.plan.phases.first();
        let why = load.and_then(|time| {
            let bound = time.bound()?;
            let text = bound_text(bound, time, &self.plan.inputs, self.costs);
            Some(format!("; loading is bound by {text}"))
        });
        let later = self.plan.seconds_of_handles_later();
        let later = later.map(|seconds| {
            let span = span(seconds);
            format!("; then handles are verified beside the serving AppView, for {span}")
        });
        let time = format!(
            "estimate of the time: {most}{} ({}){}{}",
            span(self.plan.seconds()),
            parts.join(", "),
            why.unwrap_or_default(),
            later.unwrap_or_default()
        );
        [size, time]
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let plan = self.plan;
        let Inputs { machine, sizes, .. } = &plan.inputs;
        let phases: Vec<Value> = plan.phases.iter().map(phase_json).collect();
        let settings: Vec<Value> = self
            .settings
            .iter()
            .map(|setting| {
                json!({
                    "name": setting.name,
                    "found": setting.found,
                    "gains": setting.gains,
                    "change": setting.change,
                })
            })
            .collect();
        let changes: Vec<Value> = changes(self.costs, &plan.inputs)
            .iter()
            .map(|change| {
                json!({
                    "change": change.what,
                    "seconds": whole(change.seconds),
                    "bytes": whole(change.bytes),
                })
            })
            .collect();
        let about: serde_json::Map<String, Value> = self
            .costs
            .about
            .iter()
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        json!({
            "work": self.work_json(),
            "machine": {
                "cores": machine.cores,
                "memoryBytes": machine.memory,
                "freeBytes": machine.free,
                "diskBytesPerSecond": machine.disk_rate,
                "isShared": machine.is_shared,
            },
            "seconds": whole(plan.seconds()),
            "handlesLaterSeconds": plan.seconds_of_handles_later().map(whole),
            "phases": phases,
            "disk": self.disk_json(),
            "memory": {
                "skyfillBytes": sizes.memory,
                "indexBuildBytes": sizes.build_memory,
                "sharedBuffersBytes": sizes.shared_buffers,
            },
            "settings": settings,
            "changes": changes,
            "notes": self.notes,
            "costs": about,
        })
    }

    fn work_json(&self) -> Value {
        let work = &self.plan.inputs.work;
        json!({
            "repos": work.repos,
            "records": work.records,
            "hosts": work.hosts,
            "fullestHost": work.fullest.as_ref().map(|host| json!({
                "host": host.name, "repos": host.repos, "requestsPerSecond": host.rate,
            })),
            "basis": basis_word(work.basis),
            "isPart": self.is_part,
        })
    }

    fn disk_json(&self) -> Value {
        let disk = &self.plan.disk;
        let table = |table: &TableSize| {
            json!({
                "table": table.name,
                "rows": whole(table.rows),
                "heapBytes": whole(table.heap),
                "indexBytes": whole(table.indexes),
            })
        };
        let tables: Vec<Value> = disk.tables.iter().map(table).collect();
        json!({
            "bytesAtOnce": whole(disk.at_once()),
            "bytesAtTheEnd": whole(disk.at_the_end()),
            "sortingBytes": whole(disk.sorting),
            "walBytesAtOnce": whole(disk.wal_kept),
            "walBytesWritten": whole(disk.all_wal()),
            "lacksBytes": self.plan.lacks().map(whole),
            "tables": tables,
        })
    }
}

fn phase_json(time: &PhaseTime) -> Value {
    let bounds: serde_json::Map<String, Value> = time
        .bounds
        .iter()
        .map(|(bound, seconds)| (bound.word().to_owned(), json!(whole(*seconds))))
        .collect();
    json!({
        "phase": time.phase.word(),
        "seconds": whole(time.seconds()),
        "boundBy": time.bound().map(Bound::word),
        "bounds": bounds,
        "diskBytes": whole(time.disk_bytes),
    })
}

fn basis_word(basis: Basis) -> &'static str {
    match basis {
        Basis::FullNetwork => "fullNetwork",
        Basis::Given => "given",
        Basis::Ledger => "ledger",
        Basis::LedgerAndLoaded => "ledgerAndLoaded",
        Basis::Named => "named",
    }
}

/// What bounds a phase, for people.
fn bound_text(bound: Bound, time: &PhaseTime, inputs: &Inputs, costs: &Costs) -> String {
    let sizes = &inputs.sizes;
    match bound {
        Bound::Hosts => inputs.work.fullest.as_ref().map_or_else(
            || "the hosts".to_owned(),
            |host| {
                let name = host.name.as_deref().unwrap_or("the fullest host");
                format!(
                    "hosts: {} has {} repos, at {} requests per second",
                    printable(name),
                    count(host.repos),
                    rate(host.rate)
                )
            },
        ),
        Bound::Requests => format!("{} concurrent requests (--concurrency)", sizes.slots),
        Bound::Threads => format!(
            "skyfill's CPU: {} (--threads)",
            counted(sizes.threads as u64, "thread")
        ),
        Bound::Connections => format!(
            "PostgreSQL's CPU: {} (--max-db-connections)",
            counted(sizes.connections as u64, "connection")
        ),
        Bound::Cores => format!("CPU: {}", counted(inputs.machine.cores as u64, "core")),
        Bound::Builds => format!(
            "PostgreSQL's settings: {} for index builds",
            counted(sizes.build_processes as u64, "process")
        ),
        Bound::LargestIndex => {
            let largest = costs
                .indexes
                .iter()
                .max_by(|a, b| a.bytes.total_cmp(&b.bytes));
            let name = largest.map_or("", |index| index.name.as_str());
            format!("the largest index: {name}")
        }
        Bound::LargestTable => {
            let largest = costs.tables.iter().max_by(|a, b| a.heap.total_cmp(&b.heap));
            let name = largest.map_or("", |table| table.name.as_str());
            format!("the largest table: one process vacuums {name}")
        }
        Bound::Disk => format!(
            "the disk: {} are read and written",
            bytes(whole(time.disk_bytes))
        ),
        Bound::Verifiers => format!("{} connections that compare", sizes.verifiers),
        Bound::LookUps => format!("{} handles are verified at once", sizes.look_ups),
        Bound::Accounts => "one connection, which stores handles as claimed".to_owned(),
        Bound::Directory => format!(
            "the PLC directory: {} documents per second (--plc-rate)",
            rate(sizes.directory_rate)
        ),
    }
}

fn row(name: &str, value: &str, more: &str) -> String {
    format!("{name:<20} {value:<12} {more}")
        .trim_end()
        .to_owned()
}

fn span(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "for ever".to_owned(), rough)
}

/// A number of an estimate.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(number: f64) -> u64 {
    number.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inputs::{Fullest, Work};

    fn inputs() -> Inputs {
        Inputs {
            work: Work {
                fullest: Some(Fullest {
                    name: Some("pds\u{1b}[2J.example".to_owned()),
                    repos: 500_000,
                    rate: 10.0,
                }),
                ..Work::full_network()
            },
            ..Inputs::example()
        }
    }

    #[test]
    fn the_page_says_all_of_it_and_no_host_speaks_to_the_terminal() {
        let (costs, inputs) = (Costs::committed(), inputs());
        let plan = Plan::of(&costs, &inputs);
        let settings = [Setting {
            name: "max_wal_size".to_owned(),
            found: "1 GiB".to_owned(),
            gains: Some("checkpoints come early".to_owned()),
            change: Some("ALTER SYSTEM SET max_wal_size = '16GB'".to_owned()),
        }];
        let page = Page {
            plan: &plan,
            costs: &costs,
            server: "PostgreSQL 17".to_owned(),
            settings: &settings,
            folder: Some("/data".to_owned()),
            is_part: false,
            notes: vec!["a note".to_owned()],
        };
        let text = page.lines().join("\n");
        for said in [
            "45,000,000 repos, 20,000,000,000 records, 3,200 hosts",
            "64 cores, 256 GiB of memory; PostgreSQL 17",
            "has 500,000 repos, at 10 requests per second",
            "\ntotal ",
            "1.0 TiB free at /data: ",
            " too little",
            "\n    record ",
            "\n  sorting ",
            "\n  WAL ",
            "\nmax_wal_size: 1 GiB; checkpoints come early\n  -> ALTER SYSTEM",
            "\nwhat would change it\n  ",
            "\naccounts ",
            "\nhandles              2 d 11 h     after that, beside the serving AppView: 32 are verified at once",
            "\ncosts per record: measured on ",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.lines().count() < 60, "{text}");
        let [size, time] = page.two_lines();
        assert!(
            size.starts_with("estimate for 45,000,000 repos on 3,200 hosts"),
            "{size}"
        );
        assert!(time.contains("loading is bound by "), "{time}");
        let later = "; then handles are verified beside the serving AppView, for 2 d 11 h";
        assert!(time.ends_with(later), "{time}");
        let json = page.json();
        assert_eq!(json["phases"][0]["phase"], "load");
        assert_eq!(json["work"]["basis"], "fullNetwork");
        let parts: u64 = json["phases"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|phase| phase["seconds"].as_u64())
            .sum();
        let total = json["seconds"].as_u64().unwrap_or_default();
        assert!(parts.abs_diff(total) <= 6, "{json:#}");
        assert!(
            json["disk"]["lacksBytes"]
                .as_u64()
                .is_some_and(|lacks| lacks > 1 << 40)
        );
    }
}
