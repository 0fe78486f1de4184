//! The sections of a page, in order.

use super::charts::{self, Curve, Piece};
use super::tables::{Align, facts, table};
use super::words::{moment, section, short, text, whole};
use crate::Report;
use crate::rates::{Point, points};
use engine::status::lines::time_of;
use engine::status::{help, host, iso};
use ledger::runs::Phase;
use ledger::settings::Setting;
use observe::units::{bytes, count, counted, rate, span};
use std::collections::BTreeMap;

/// Months that are drawn.
const MONTHS: usize = 48;
/// Tables whose indexes are named.
const LARGEST: usize = 12;

/// What limits, in the order of its colors.
const LIMITS: &[&str] = &[
    "hosts",
    "encoding",
    "PostgreSQL",
    "disk",
    "network",
    "skyfill",
];

fn limit_class(limit: &str) -> String {
    let at = LIMITS.iter().position(|known| *known == limit);
    format!("l{}", at.map_or(7, |at| at + 1))
}

/// When the run began, and how long it is until the last that is known of it, in seconds.
fn time_axis(report: &Report) -> (f64, f64) {
    let phases = report.status.phases.iter();
    let first = phases.clone().map(|phase| phase.began);
    let begin = first.fold(f64::INFINITY, f64::min);
    let begin = match begin.is_finite() {
        true => begin,
        false => report.status.run_times.0.unwrap_or(report.status.at),
    };
    let ends = phases.map(|phase| phase.began + phase.seconds);
    let last = report.samples.last().map_or(begin, |sample| sample.at);
    let end = ends.fold(last, f64::max);
    (begin, (end - begin).max(1.0))
}

/// Seconds in which a process worked on the run.
fn worked(report: &Report) -> f64 {
    report.status.phases.iter().map(|phase| phase.seconds).sum()
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn head(report: &Report) -> String {
    let status = &report.status;
    let verdict = status.judgment.verdict;
    let run = match &status.coverage.run {
        Some(run) => format!(
            "<h1>skyfill, run {}</h1>\n<p class=\"soft\">A {} load dated {}, into schema {} of <code>{}</code></p>\n",
            run.id,
            run.mode.word(),
            text(&run.now),
            text(&status.schema),
            text(&status.database)
        ),
        None => "<h1>skyfill</h1>\n<p>No run has begun on this database.</p>\n".to_owned(),
    };
    let missing = match status.judgment.missing.is_empty() {
        true => String::new(),
        false => format!("<p>{}</p>\n", text(&status.judgment.missing.join("; "))),
    };
    let loaded = status
        .coverage
        .count(|state| state == ledger::states::State::Loaded);
    let all: u64 = status.coverage.repos.values().sum();
    let loading = time_of(Phase::Load.word(), &status.phases).0;
    let mut tiles = vec![
        (count(status.stored.records), "records stored".to_owned()),
        (count(loaded), format!("of {} loaded", counted(all, "repo"))),
        (bytes(status.stored.bytes), "of repos".to_owned()),
        (span(worked(report)), "of work".to_owned()),
    ];
    if loading > 0.0 {
        let mut records: BTreeMap<i32, u64> = BTreeMap::new();
        for sample in &report.samples {
            let most = records.entry(sample.process).or_default();
            *most = sample.records.max(*most);
        }
        let per_second = records.values().sum::<u64>() as f64 / loading;
        tiles.push((
            format!("{}/s", short(per_second)),
            "records while loading".to_owned(),
        ));
    }
    if let Ok(server) = &report.server {
        tiles.push((bytes(server.database_bytes), "database".to_owned()));
    }
    let tiles: String = tiles
        .iter()
        .map(|(value, what)| {
            format!(
                "<div><b>{}</b><span>{}</span></div>",
                text(value),
                text(what)
            )
        })
        .collect();
    format!(
        "<header>\n{run}<p class=\"verdict {0}\">{0}</p>\n{missing}</header>\n<div class=\"tiles\">{tiles}</div>\n",
        verdict.word()
    )
}

pub(super) fn phases(report: &Report) -> String {
    let (begin, length) = time_axis(report);
    let times = &report.status.phases;
    let mut names: Vec<(&str, &str)> = vec![("discover", "discovery")];
    names.extend(
        Phase::ALL
            .iter()
            .filter(|phase| **phase != Phase::Done)
            .map(|phase| (phase.word(), phase.label())),
    );
    let (mut strips, mut rows) = (String::new(), Vec::new());
    for (name, label) in names {
        let of_phase = times
            .iter()
            .filter(|time| time.phase == name && time.seconds > 0.0);
        let pieces: Vec<Piece> = of_phase
            .map(|time| Piece {
                from: time.began - begin,
                to: time.began - begin + time.seconds,
                class: limit_class(time.bound_by().unwrap_or_default()),
                says: format!("{label}: {}", span(time.seconds)),
            })
            .collect();
        if pieces.is_empty() {
            continue;
        }
        let (seconds, limit) = time_of(name, times);
        strips += &charts::strip(label, &pieces, length);
        rows.push(vec![
            text(label),
            span(seconds),
            format!("{:.0} %", seconds / worked(report).max(0.001) * 100.0),
            limit
                .as_deref()
                .map_or_else(|| "too short to say".to_owned(), text),
            text(&limits_of(name, report)),
        ]);
    }
    if rows.is_empty() {
        return section("phases", "Phases", "<p>No phase was recorded.</p>\n");
    }
    let body = format!(
        "<div class=\"times\">\n{strips}{}</div>\n{}{}",
        charts::axis(length),
        legend(report),
        table(
            &[
                ("phase", Align::Text),
                ("time", Align::Number),
                ("share", Align::Number),
                ("limited by", Align::Text),
                ("seen", Align::Text),
            ],
            &rows
        )
    );
    let title = format!("Phases, from {}", moment(begin));
    section("phases", &title, &body)
}

/// `PostgreSQL 80 %, disk 20 %`.
fn limits_of(phase: &str, report: &Report) -> String {
    let mut limits: BTreeMap<&str, f64> = BTreeMap::new();
    for time in report
        .status
        .phases
        .iter()
        .filter(|time| time.phase == phase)
    {
        for (limit, seconds) in &time.limits {
            *limits.entry(limit).or_default() += seconds;
        }
    }
    let all: f64 = limits.values().sum();
    let mut limits: Vec<(&str, f64)> = limits.into_iter().collect();
    limits.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let shares = limits
        .iter()
        .map(|(limit, seconds)| format!("{limit} {:.0} %", seconds / all.max(0.001) * 100.0));
    shares.collect::<Vec<_>>().join(", ")
}

fn legend(report: &Report) -> String {
    let phases = &report.status.phases;
    let is_seen = |limit: &&&str| {
        phases
            .iter()
            .any(|time| time.limits.iter().any(|(seen, _)| seen == **limit))
    };
    let items: String = LIMITS
        .iter()
        .filter(is_seen)
        .map(|limit| {
            format!(
                "<li><svg viewBox=\"0 0 1 1\" aria-hidden=\"true\"><rect class=\"{}\" width=\"1\" height=\"1\"/></svg>limited by {limit}</li>",
                limit_class(limit)
            )
        })
        .collect();
    format!("<ul class=\"legend\">{items}</ul>\n")
}

pub(super) fn rates(report: &Report) -> String {
    let (begin, length) = time_axis(report);
    let points = points(&report.samples);
    if points.len() < 2 {
        let body = "<p>The run was too short for a curve.</p>\n";
        return section("rates", "Rates over time", body);
    }
    let values = |pick: usize| -> Vec<(f64, f64)> {
        let point = |point: &Point| (point.at - begin, point.per_second[pick]);
        points.iter().map(point).collect()
    };
    let per_second = |value: f64| format!("{}/s", short(value));
    let curves: [(&str, usize, fn(f64) -> String); 4] = [
        ("Records", 1, per_second),
        ("Rows, as the server counts them", 3, per_second),
        ("Repos", 0, per_second),
        ("Bytes of repos", 2, |value| {
            format!("{}/s", bytes(whole(value)))
        }),
    ];
    let drawn: String = curves
        .into_iter()
        .map(|(title, pick, show)| {
            let curve = Curve {
                title,
                points: values(pick),
                show,
                class: "rate",
            };
            curve.draw(length)
        })
        .collect();
    let limits: Vec<Piece> = points
        .iter()
        .filter_map(|point| {
            let limit = point.limit.as_ref()?;
            Some(Piece {
                from: point.at - begin - point.seconds,
                to: point.at - begin,
                class: limit_class(limit),
                says: format!("{limit}, in {}", point.phase),
            })
        })
        .collect();
    let body = format!(
        "<div class=\"charts\">\n{drawn}</div>\n<h3>What limited</h3>\n<div class=\"times\">\n{}{}</div>\n{}",
        charts::strip("limit", &limits, length),
        charts::axis(length),
        legend(report)
    );
    section("rates", "Rates over time", &body)
}

pub(super) fn content(report: &Report) -> String {
    let title = "What was loaded";
    let content = match &report.content {
        Ok(content) => content,
        Err(why) => {
            return section(
                "content",
                title,
                &format!("<p>Not counted: {}</p>\n", text(why)),
            );
        }
    };
    let (mut collections, mut months): (BTreeMap<&str, (f64, f64)>, BTreeMap<&str, f64>) =
        Default::default();
    for kind in &content.kinds {
        let of = collections.entry(&kind.collection).or_default();
        *of = (of.0 + kind.records, of.1 + kind.bytes);
        *months.entry(&kind.month).or_default() += kind.records;
    }
    let all: f64 = collections.values().map(|(records, _)| records).sum();
    let mut sorted: Vec<(&str, (f64, f64))> = collections.into_iter().collect();
    sorted.sort_by(|(_, a), (_, b)| b.0.total_cmp(&a.0));
    let rows: Vec<Vec<String>> = sorted
        .iter()
        .map(|(collection, (records, size))| {
            let share = records / all.max(1.0);
            vec![
                format!("<code>{}</code>", text(collection)),
                count(whole(*records)),
                format!("{:.1} %", share * 100.0),
                bytes(whole(*size)),
                charts::bar(&[(share, "used")]),
            ]
        })
        .collect();
    let note = match content.sampled {
        Some(looked) => format!(
            "<p class=\"soft\">Estimated from a sample of {}; the sum is exact.</p>\n",
            counted(looked, "record")
        ),
        None => String::new(),
    };
    let left_out = months.len().saturating_sub(MONTHS);
    let shown: Vec<(String, f64)> = months
        .into_iter()
        .skip(left_out)
        .map(|(month, records)| (month.to_owned(), records))
        .collect();
    let earlier = match left_out {
        0 => String::new(),
        _ => {
            let months = counted(left_out as u64, "earlier month");
            format!("<p class=\"soft\">Not drawn: {months}.</p>\n")
        }
    };
    let columns = [
        ("collection", Align::Text),
        ("records", Align::Number),
        ("share", Align::Number),
        ("JSON", Align::Number),
        ("", Align::Text),
    ];
    let body = format!(
        "{note}{}<h3>By month</h3>\n{}{earlier}",
        table(&columns, &rows),
        charts::columns("Records by the month of indexedAt", &shown)
    );
    section("content", title, &body)
}

pub(super) fn hosts(report: &Report) -> String {
    let status = &report.status;
    if status.hosts.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = status
        .hosts
        .iter()
        .map(|known| {
            let gave = &known.gave;
            let learned = known.learned.as_deref();
            let trouble = gave.trouble.as_deref().or(known.listing_error.as_deref());
            vec![
                text(&known.host),
                count(gave.given),
                count(gave.records),
                bytes(gave.bytes),
                count(gave.pending),
                count(gave.failed),
                count(gave.absent),
                format!("{}/s", rate(gave.pace)),
                text(&host::limit(learned)),
                count(host::lessons(learned)),
                trouble.map_or_else(String::new, text),
            ]
        })
        .collect();
    let number = |name| (name, Align::Number);
    let columns = [
        ("host", Align::Text),
        number("repos"),
        number("records"),
        number("bytes"),
        number("pending"),
        number("failed"),
        number("absent"),
        number("last rate"),
        ("limit", Align::Text),
        number("429s"),
        ("trouble", Align::Text),
    ];
    let note = match (rows.len() as u64) < status.all_hosts {
        true => format!(
            "<p class=\"soft\">{} of {}: those with the most left to do first, then those that gave the most.</p>\n",
            rows.len(),
            counted(status.all_hosts, "host")
        ),
        false => String::new(),
    };
    section(
        "hosts",
        "Hosts",
        &format!("{note}{}", table(&columns, &rows)),
    )
}

pub(super) fn failures(report: &Report) -> String {
    if report.failures.is_empty() {
        return section("failures", "Failures", "<p>No repo is failed.</p>\n");
    }
    let rows: Vec<Vec<String>> = report
        .failures
        .iter()
        .map(|group| {
            let examples: String = group
                .examples
                .iter()
                .map(|example| {
                    format!(
                        "<div class=\"example\"><code>{}</code> at {}: {}</div>",
                        text(&example.did),
                        text(if example.host.is_empty() {
                            "no host"
                        } else {
                            &example.host
                        }),
                        text(&example.error)
                    )
                })
                .collect();
            vec![
                format!("<b>{}</b>", text(&group.code)),
                count(group.repos),
                count(group.hosts),
                format!("{}{examples}", text(help::against(&group.code))),
            ]
        })
        .collect();
    let columns = [
        ("reason", Align::Text),
        ("repos", Align::Number),
        ("hosts", Align::Number),
        ("what helps, and examples", Align::Text),
    ];
    section("failures", "Failures", &table(&columns, &rows))
}

pub(super) fn proof(report: &Report) -> String {
    let (coverage, judgment) = (&report.status.coverage, &report.status.judgment);
    let mut list = vec![(
        "Verdict",
        format!(
            "{}: {}",
            judgment.verdict.word(),
            text(judgment.verdict.meaning())
        ),
    )];
    if !judgment.missing.is_empty() {
        list.push(("Missing", text(&judgment.missing.join("; "))));
    }
    if !judgment.scope.is_empty() {
        list.push(("Left out by choice", text(&judgment.scope.join("; "))));
    }
    list.push((
        "Compared with the signed commits",
        match &coverage.proof {
            Some(proof) => format!(
                "{}; {} differences{}",
                text(&proof.began),
                count(proof.differences),
                if proof.is_current {
                    ""
                } else {
                    "; repos were loaded since"
                }
            ),
            None => "never".to_owned(),
        },
    ));
    let proofs = &coverage.proofs;
    for (what, repos) in [
        ("Signed by the key of their document", proofs.signed),
        ("Signed by an older key", proofs.older_key),
        ("Unproved", proofs.unchecked),
        ("Forged", proofs.forged),
    ] {
        if repos > 0 {
            list.push((what, counted(repos, "repo")));
        }
    }
    for (state, repos) in &coverage.repos {
        list.push(("Repos", format!("{} {}", count(*repos), state.term())));
    }
    section("proof", "Proof", &facts(&list))
}

#[allow(clippy::cast_precision_loss)]
pub(super) fn sizes(report: &Report) -> String {
    let title = "Database";
    let relations = match &report.relations {
        Ok(relations) => relations,
        Err(why) => {
            return section(
                "sizes",
                title,
                &format!("<p>Not measured: {}</p>\n", text(why)),
            );
        }
    };
    let largest = relations
        .iter()
        .map(|relation| relation.bytes + relation.index_bytes())
        .max()
        .unwrap_or(1)
        .max(1) as f64;
    let rows: Vec<Vec<String>> = relations
        .iter()
        .filter(|relation| relation.rows > 0 || relation.bytes + relation.index_bytes() > 1 << 16)
        .map(|relation| {
            vec![
                format!("{}.{}", text(&relation.schema), text(&relation.table)),
                count(relation.rows),
                bytes(relation.bytes),
                bytes(relation.index_bytes()),
                charts::bar(&[
                    (relation.bytes as f64 / largest, "used"),
                    (relation.index_bytes() as f64 / largest, "used2"),
                ]),
            ]
        })
        .collect();
    let columns = [
        ("table", Align::Text),
        ("rows, about", Align::Number),
        ("table", Align::Number),
        ("indexes", Align::Number),
        ("table and indexes", Align::Text),
    ];
    let mut indexes: Vec<(&str, &str, u64)> = relations
        .iter()
        .flat_map(|relation| {
            let named = relation.indexes.iter();
            named.map(move |(name, size)| (name.as_str(), relation.table.as_str(), *size))
        })
        .collect();
    indexes.sort_by_key(|(_, _, size)| std::cmp::Reverse(*size));
    let rows_of_indexes: Vec<Vec<String>> = indexes
        .iter()
        .take(LARGEST)
        .map(|(name, table, size)| vec![text(name), text(table), bytes(*size)])
        .collect();
    let of_indexes = table(
        &[
            ("index", Align::Text),
            ("table", Align::Text),
            ("size", Align::Number),
        ],
        &rows_of_indexes,
    );
    let body = format!(
        "{}<h3>The largest indexes, of {}</h3>\n{of_indexes}",
        table(&columns, &rows),
        count(indexes.len() as u64)
    );
    section("sizes", title, &body)
}

pub(super) fn settings(report: &Report) -> String {
    let status = &report.status;
    let mut list = Vec::new();
    let words: Vec<String> = status.settings.iter().flat_map(Setting::words).collect();
    let line = match words.is_empty() {
        true => "none".to_owned(),
        false => format!("<code>{}</code>", text(&process::shell::line(&words))),
    };
    list.push(("Options that are stored", line));
    if let Some(run) = &status.coverage.run {
        let collections = run.collections.as_ref();
        list.push((
            "Collections",
            collections.map_or_else(|| "all".to_owned(), |list| text(&list.join(", "))),
        ));
        list.push(("Notifications", text(&run.notifications)));
    }
    if let Some(process) = status.processes.first() {
        list.push((
            "Last process",
            format!(
                "skyfill {} {} on {}, from {}",
                text(&process.version),
                text(&process.command),
                text(&process.machine),
                text(&iso(process.began))
            ),
        ));
    }
    match &report.server {
        Ok(server) => {
            list.push(("Server", text(&server.version)));
            for (name, value) in &server.settings {
                list.push(("", format!("<code>{} = {}</code>", text(name), text(value))));
            }
        }
        Err(why) => list.push(("Server", text(why))),
    }
    section("settings", "Settings and versions", &facts(&list))
}
