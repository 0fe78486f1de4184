//! A status as JSON. docs/reference/status.md explains the fields; they are only added to.

use super::{Pace, Status, iso};
use crate::certificate;
use crate::status::host;
use ledger::follow::Followed;
use ledger::history::PhaseTime;
use ledger::processes::Process;
use ledger::workers::Worker;
use serde_json::{Map, Value, json};

impl Status {
    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            coverage, judgment, ..
        } = self;
        let run = coverage.run.as_ref().map(|run| {
            json!({
                "id": run.id, "now": run.now, "mode": run.mode.word(), "phase": run.phase.word(),
                "collections": run.collections, "notifications": run.notifications, "since": run.since,
                "beganAt": self.run_times.0.map(iso), "endedAt": self.run_times.1.map(iso),
            })
        });
        let settings = self.settings.iter().map(|setting| {
            let values: Value = setting.values.clone().into();
            (setting.name.clone(), values)
        });
        json!({
            "database": self.database,
            "schema": self.schema,
            "readAt": iso(self.at),
            "run": run,
            "processes": self.processes.iter().map(process).collect::<Vec<_>>(),
            "workers": self.workers.iter().map(worker).collect::<Vec<_>>(),
            "phases": phases(&self.phases),
            "progress": self.pace.as_ref().map(progress),
            "verdict": judgment.verdict.word(),
            "missing": judgment.missing,
            "scope": judgment.scope,
            "outside": judgment.outside,
            "provedAt": coverage.proof.as_ref().map(|proof| &proof.began),
            "repos": certificate::words(&coverage.repos),
            "contested": coverage.contested,
            "stored": { "records": self.stored.records, "bytes": self.stored.bytes },
            "proof": certificate::proof(&coverage.proofs),
            "handles": handles(self),
            "droppedIndexes": self.dropped_indexes,
            "settings": settings.collect::<Map<_, _>>(),
            "hosts": self.hosts.iter().map(host::json).collect::<Vec<_>>(),
            "hostsKnown": self.all_hosts,
            "restart": self.restart.json(),
            "follow": self.followed.as_ref().map(followed),
        })
    }
}

/// Handles by state, and how long it takes to verify those that are claimed.
fn handles(status: &Status) -> Value {
    let mut handles = certificate::handles(&status.coverage.handles);
    handles["secondsLeft"] = status.seconds_of_handles().into();
    handles
}

fn followed(followed: &Followed) -> Value {
    json!({
        "relay": followed.relay, "cursor": followed.cursor, "alive": followed.is_alive, "lagSeconds": followed.lag,
        "waiting": followed.waiting, "eventsPerSecond": followed.per_second, "events": followed.events,
        "commits": followed.commits, "repeated": followed.repeated, "refused": followed.refused, "fetched": followed.fetched,
        "behind": followed.behind, "proved": followed.proved, "differed": followed.differed, "rounds": followed.rounds, "fallbacks": followed.fallbacks,
    })
}

fn process(process: &Process) -> Value {
    json!({
        "id": process.id, "command": format!("skyfill {}", process.command), "machine": process.machine, "pid": process.pid,
        "version": process.version, "beganAt": iso(process.began), "seenAt": iso(process.seen),
        "endedAt": process.ended.map(iso), "run": process.run, "phase": process.phase, "alive": process.is_alive,
    })
}

fn worker(worker: &Worker) -> Value {
    let report = &worker.report;
    json!({
        "name": worker.name, "machine": worker.machine, "pid": worker.pid, "run": worker.run, "joinedAt": iso(worker.joined),
        "alive": worker.is_alive, "left": worker.has_left, "seenSecondsAgo": worker.seen_ago,
        "hosts": worker.hosts, "pending": report.pending, "requests": report.under_way, "concurrency": worker.slots,
        "repos": report.repos, "failed": report.failed, "records": report.records, "bytes": report.bytes,
        "perSecond": { "repos": report.repos_per_second, "records": report.records_per_second },
        "leasesLost": report.leases_lost,
    })
}

/// The phases of all processes that worked on a run.
fn phases(phases: &[PhaseTime]) -> Value {
    let phase = |phase: &PhaseTime| {
        let limits: Map<String, Value> = phase
            .limits
            .iter()
            .map(|(limit, seconds)| (limit.clone(), (*seconds).into()))
            .collect();
        json!({
            "process": phase.process, "phase": phase.phase, "beganAt": iso(phase.began), "seconds": phase.seconds,
            "ended": phase.is_done, "boundBy": phase.bound_by(), "limitSeconds": limits,
        })
    };
    phases.iter().map(phase).collect()
}

fn progress(pace: &Pace) -> Value {
    let last = &pace.last;
    let [repos, records, bytes, rows] = pace.per_second;
    json!({
        "at": iso(last.at), "phase": last.phase, "done": last.done, "total": last.total, "secondsLeft": last.seconds_left,
        "perSecond": { "repos": repos, "records": records, "bytes": bytes, "rows": rows },
        "limit": last.limit, "limitWhy": last.why,
    })
}
