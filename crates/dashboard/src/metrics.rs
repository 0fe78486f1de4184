//! The text for Prometheus. Every name is in [`ALL`], and a test holds that to
//! docs/reference/metrics.md.

use crate::live::Live;
use crate::origin::Origin;
use crate::shared::Served;
use crate::stored::Known;
use ledger::follow::Followed;
use observe::registry::PhaseState;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};

/// A metric.
pub(crate) struct Metric {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) labels: &'static [&'static str],
    pub(crate) help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $kind:literal $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $id: Metric = Metric { name: $name, kind: $kind, labels: &[$($label),*], help: $help };)*
        /// All of them.
        #[cfg(test)]
        pub(crate) const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    INFO "gauge" "skyfill_info" ["version", "command"] "Version and command; always 1";
    COMMAND_SECONDS "gauge" "skyfill_command_seconds" [] "Seconds since the command began";
    PHASE_STATE "gauge" "skyfill_phase_state" ["phase"] "State of a phase: 0 pending, 1 open, 2 done";
    PHASE_SECONDS "gauge" "skyfill_phase_seconds" ["phase"] "Seconds that a phase has been open";
    COUNTER "counter" "skyfill_counter_total" ["stage", "counter"] "What a stage under way has counted";
    EXPECTED "gauge" "skyfill_stage_expected" ["stage"] "What the first counter of a stage will be at its end";
    SECONDS_LEFT "gauge" "skyfill_stage_seconds_left" ["stage"] "Estimated seconds until the end of a stage";
    WAITING "gauge" "skyfill_stage_waiting" ["stage"] "Hosts that a stage waits for";
    FAILURES "counter" "skyfill_failures_total" ["stage", "reason"] "Failures of a stage under way";
    LIMIT "gauge" "skyfill_limit" ["name"] "What limits the work now; always 1";
    REPOS "gauge" "skyfill_repos" ["state"] "Repos of the ledger by state";
    RECORDS "gauge" "skyfill_records_stored" [] "Records of the repos that are stored";
    FETCHED "gauge" "skyfill_bytes_stored" [] "Bytes of the repos that are stored, as they were fetched";
    HOSTS "gauge" "skyfill_hosts" ["health"] "Hosts by health";
    FAILED "gauge" "skyfill_failed_repos" ["code"] "Failed repos by error code";
    COUNTED "gauge" "skyfill_counted_timestamp_seconds" [] "When the counts of the ledger were read";
    FOLLOW_ALIVE "gauge" "skyfill_follow_alive" [] "Whether a process follows the event stream";
    FOLLOW_LAG "gauge" "skyfill_follow_lag_seconds" [] "Seconds between the last event that was stored and the time when it was";
    FOLLOW_WAITING "gauge" "skyfill_follow_waiting_events" [] "Events that were received and are not stored yet";
    FOLLOW_BEHIND "gauge" "skyfill_follow_behind_repos" [] "Repos that are behind the event stream";
    FOLLOW_EVENTS "counter" "skyfill_follow_events_total" ["outcome"] "Events of the stream by what became of them, in all";
    FOLLOW_PROVED "counter" "skyfill_follow_proved_repos_total" ["outcome"] "Repos that were compared with their commits beside the event stream";
    UP "gauge" "skyfill_database_up" [] "Whether the database answers";
    DATABASE_BYTES "gauge" "skyfill_postgres_database_bytes" [] "Size of the database";
    WAL_BYTES "counter" "skyfill_postgres_wal_bytes_total" [] "WAL written by the whole server";
    CHECKPOINTS "counter" "skyfill_postgres_checkpoints_total" ["cause"] "Checkpoints of the whole server";
    CHECKPOINT_SECONDS "counter" "skyfill_postgres_checkpoint_write_seconds_total" [] "Seconds that checkpoints spent writing";
    ROWS "counter" "skyfill_postgres_rows_total" ["operation"] "Rows written in the database";
    TRANSACTIONS "counter" "skyfill_postgres_transactions_total" ["outcome"] "Transactions of the database";
    TEMP_BYTES "counter" "skyfill_postgres_temp_bytes_total" [] "Bytes of temporary files of the database";
    SESSIONS "gauge" "skyfill_postgres_sessions" ["state", "wait"] "Sessions of the database by state and what they wait for";
    TABLE_BYTES "gauge" "skyfill_postgres_table_bytes" ["schema", "table", "part"] "Size of a table's rows or indexes";
    CPU "counter" "process_cpu_seconds_total" [] "Processor time of the process that serves this";
    MEMORY "gauge" "process_resident_memory_bytes" [] "Memory of the process that serves this";
}

/// All of it.
pub(crate) fn text(shared: &Served) -> String {
    let mut page = Page::default();
    let known = shared.stored.known();
    {
        let live = shared.live();
        page.family(&INFO);
        let command = match shared.origin {
            Origin::Process => live.snapshot().command.clone(),
            Origin::Ledger => "dashboard".to_owned(),
        };
        page.sample(&INFO, &[env!("CARGO_PKG_VERSION"), &command], 1);
        if shared.origin == Origin::Process {
            of_process(&mut page, &live);
        }
    }
    of_ledger(&mut page, &known);
    if let Some(followed) = &known.followed {
        of_stream(&mut page, followed);
    }
    of_server(&mut page, &known);
    of_machine(&mut page);
    page.0
}

fn of_process(page: &mut Page, live: &Live) {
    let snapshot = live.snapshot();
    page.single(&COMMAND_SECONDS, snapshot.seconds);
    page.family(&PHASE_STATE);
    for phase in &snapshot.phases {
        let state = match phase.state {
            PhaseState::Pending => 0,
            PhaseState::Open => 1,
            PhaseState::Done => 2,
        };
        page.sample(&PHASE_STATE, &[phase.name], state);
    }
    page.family(&PHASE_SECONDS);
    for phase in &snapshot.phases {
        page.sample(&PHASE_SECONDS, &[phase.name], phase.seconds);
    }
    page.family(&COUNTER);
    for stage in &snapshot.stages {
        for counter in &stage.counters {
            page.sample(&COUNTER, &[stage.name, counter.name], counter.value);
        }
    }
    page.family(&EXPECTED);
    for stage in &snapshot.stages {
        if let Some(total) = stage.total {
            page.sample(&EXPECTED, &[stage.name], total);
        }
    }
    page.family(&SECONDS_LEFT);
    for stage in &snapshot.stages {
        if let Some(left) = stage.seconds_left {
            page.sample(&SECONDS_LEFT, &[stage.name], left);
        }
    }
    page.family(&WAITING);
    for stage in &snapshot.stages {
        page.sample(&WAITING, &[stage.name], stage.waiting);
    }
    page.family(&FAILURES);
    for stage in &snapshot.stages {
        for (reason, times) in &stage.failures {
            page.sample(&FAILURES, &[stage.name, reason], times);
        }
    }
    page.family(&LIMIT);
    if let Some(limit) = live.limit() {
        page.sample(&LIMIT, &[limit.name], 1);
    }
}

fn of_ledger(page: &mut Page, known: &Known) {
    page.single(&UP, u8::from(known.is_ready()));
    if let Some(counts) = &known.counts {
        let (coverage, stored) = counts.value.as_ref();
        page.family(&REPOS);
        for (state, repos) in &coverage.repos {
            page.sample(&REPOS, &[state.word()], repos);
        }
        page.single(&RECORDS, stored.records);
        page.single(&FETCHED, stored.bytes);
        page.single(&COUNTED, counts.at / 1000);
    }
    if let Some(hosts) = &known.hosts {
        let mut by_health = BTreeMap::<&str, u64>::new();
        for row in hosts.value.iter() {
            *by_health.entry(row.health).or_default() += 1;
        }
        page.family(&HOSTS);
        for (health, hosts) in by_health {
            page.sample(&HOSTS, &[health], hosts);
        }
    }
    if let Some(reasons) = &known.reasons {
        page.family(&FAILED);
        for reason in reasons.value.iter() {
            page.sample(&FAILED, &[&reason.code], reason.repos);
        }
    }
}

fn of_stream(page: &mut Page, followed: &Followed) {
    page.single(&FOLLOW_ALIVE, u8::from(followed.is_alive));
    if let Some(lag) = followed.lag {
        page.single(&FOLLOW_LAG, lag);
    }
    page.single(&FOLLOW_WAITING, followed.waiting);
    page.single(&FOLLOW_BEHIND, followed.behind);
    page.family(&FOLLOW_EVENTS);
    let events = [
        ("stored", followed.commits),
        ("stored before", followed.repeated),
        ("refused", followed.refused),
        ("fetched", followed.fetched),
    ];
    for (outcome, count) in events {
        page.sample(&FOLLOW_EVENTS, &[outcome], count);
    }
    page.family(&FOLLOW_PROVED);
    let equal = followed.proved.saturating_sub(followed.differed);
    page.sample(&FOLLOW_PROVED, &["equal"], equal);
    page.sample(&FOLLOW_PROVED, &["different"], followed.differed);
}

fn of_server(page: &mut Page, known: &Known) {
    if let Some(totals) = &known.totals {
        let totals = &totals.value;
        page.single(&DATABASE_BYTES, totals.database_bytes);
        page.single(&WAL_BYTES, totals.wal_bytes);
        page.family(&CHECKPOINTS);
        page.sample(&CHECKPOINTS, &["timed"], totals.checkpoints_timed);
        page.sample(&CHECKPOINTS, &["requested"], totals.checkpoints_requested);
        page.single(&CHECKPOINT_SECONDS, totals.checkpoint_write_seconds);
        page.family(&ROWS);
        page.sample(&ROWS, &["insert"], totals.rows_inserted);
        page.sample(&ROWS, &["update"], totals.rows_updated);
        page.sample(&ROWS, &["delete"], totals.rows_deleted);
        page.family(&TRANSACTIONS);
        page.sample(&TRANSACTIONS, &["commit"], totals.commits);
        page.sample(&TRANSACTIONS, &["rollback"], totals.rollbacks);
        page.single(&TEMP_BYTES, totals.temp_bytes);
    }
    if let Some(sessions) = &known.sessions {
        let mut counted = BTreeMap::<(&str, &str), u64>::new();
        for session in sessions.value.iter() {
            *counted.entry((&session.state, &session.wait)).or_default() += 1;
        }
        page.family(&SESSIONS);
        for ((state, wait), sessions) in counted {
            page.sample(&SESSIONS, &[state, wait], sessions);
        }
    }
    if let Some(tables) = &known.tables {
        page.family(&TABLE_BYTES);
        for table in tables.value.iter() {
            let (schema, name) = (&table.schema, &table.name);
            page.sample(&TABLE_BYTES, &[schema, name, "rows"], table.table_bytes);
            page.sample(&TABLE_BYTES, &[schema, name, "indexes"], table.index_bytes);
        }
    }
}

/// What `/proc` says of this process. Elsewhere there is no such folder, and no such metric.
fn of_machine(page: &mut Page) {
    let clock = rustix::param::clock_ticks_per_second();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything.
    let fields: Vec<f64> = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0.0))
        .collect();
    if let (Some(user), Some(system), Some(pages)) =
        (fields.get(11), fields.get(12), fields.get(21))
    {
        #[allow(clippy::cast_precision_loss)]
        page.single(&CPU, (user + system) / clock as f64);
        #[allow(clippy::cast_precision_loss)]
        page.single(&MEMORY, pages * rustix::param::page_size() as f64);
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, metric: &Metric) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {} {}", metric.name, metric.help);
        let _ = writeln!(self.0, "# TYPE {} {}", metric.name, metric.kind);
    }

    fn sample(&mut self, metric: &Metric, values: &[&str], value: impl Display) {
        self.0.push_str(metric.name);
        if !values.is_empty() {
            self.0.push('{');
            for (at, (label, value)) in metric.labels.iter().zip(values).enumerate() {
                let comma = if at > 0 { "," } else { "" };
                let _ = write!(self.0, "{comma}{label}=\"{}\"", escaped(value));
            }
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn single(&mut self, metric: &Metric, value: impl Display) {
        self.family(metric);
        self.sample(metric, &[], value);
    }
}

/// A label's value as the format has it, without characters that act on a terminal.
fn escaped(value: &str) -> String {
    let shown = observe::printable(value);
    shown.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    fn read(path: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../..")
            .join(path);
        fs::read_to_string(&path).unwrap()
    }

    #[test]
    fn the_reference_has_each_metric_as_it_is() {
        let page = read("docs/reference/metrics.md");
        let documented: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("| `skyfill_") || line.starts_with("| `process_"))
            .collect();
        let expected: Vec<String> = ALL
            .iter()
            .map(|metric| {
                let labels = metric.labels.iter().map(|label| format!("`{label}`"));
                let labels = labels.collect::<Vec<_>>().join(", ");
                format!(
                    "| `{}` | {} | {labels} | {} |",
                    metric.name, metric.kind, metric.help
                )
                .replace("|  |", "| |")
            })
            .collect();
        assert_eq!(documented, expected);
    }

    /// All texts under a key, anywhere in a value.
    fn texts(value: &Value, key: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    match value {
                        Value::String(text) if name == key => found.push(text.clone()),
                        _ => texts(value, key, found),
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| texts(value, key, found)),
            _ => {}
        }
    }

    #[test]
    fn the_grafana_dashboard_asks_for_nothing_else() {
        let dashboard: Value = serde_json::from_str(&read("packaging/grafana.json")).unwrap();
        assert!(
            dashboard["schemaVersion"]
                .as_u64()
                .is_some_and(|version| version >= 39)
        );
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<u64> = panels
            .iter()
            .filter_map(|panel| panel["id"].as_u64())
            .collect();
        assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
        let mut expressions = Vec::new();
        texts(&dashboard, "expr", &mut expressions);
        assert!(expressions.len() > 10, "{expressions:?}");
        let mut asked = BTreeSet::new();
        for expression in &expressions {
            let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
            let names =
                words.filter(|word| word.starts_with("skyfill_") || word.starts_with("process_"));
            let before = asked.len();
            asked.extend(names.map(str::to_owned));
            assert!(
                asked.len() > before || before > 0,
                "{expression} asks for nothing of ours"
            );
        }
        let known: BTreeSet<String> = ALL.iter().map(|metric| metric.name.to_owned()).collect();
        let unknown: Vec<&String> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn a_label_ends_where_it_ends() {
        let mut page = Page::default();
        page.sample(&FAILED, &["a\"b\\c\nd\u{1b}[2J"], 1);
        assert_eq!(
            page.0,
            "skyfill_failed_repos{code=\"a\\\"b\\\\c\\\\nd\\\\u{1b}[2J\"} 1\n"
        );
    }
}
