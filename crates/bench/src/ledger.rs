//! The ledger at its real size: passes, leases, marks of loaded repos, and what a start asks, with
//! as many generated repos as are wanted, on 3,200 hosts, through the ledger's own functions.
//!
//! Only the fill is made by the server alone. A tenth of the repos is pending, the others are
//! loaded. The folder of the cluster is that of `TMPDIR`; 45 million repos take 20 GB there.

use crate::scene::Scene;
use ledger::coverage::Coverage;
use ledger::hosts::{self, Chosen, Leased};
use ledger::listing::{self, Line, Listing};
use ledger::open::Which;
use ledger::repos::{self, Stored};
use ledger::workers::{self, Report};
use ledger::{failures, tally, verified};
use postgres::Client;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SCHEMA: &str = "bsky";
const HOSTS: u64 = 3200;
/// So many hosts have nine tenths of the repos, as in the network.
const LARGE_HOSTS: u64 = 100;
/// Lines of a page, as hosts give them.
const PAGE: u64 = 1000;
/// Hosts that a run leases at a time, and repos that it reads of one at once.
const LEASED: i64 = 2048;
const QUEUE: i64 = 500;
/// Repos that a transaction of the loader stores, about: 12,000 records.
const BATCH: usize = 27;
/// Marks that are measured at most.
const MARKED: usize = 300_000;
/// New accounts that are measured at most.
const NEW: u64 = 500_000;
/// How often the recorder of a run adds up the counts.
const COMPACT: Duration = Duration::from_secs(5);
/// A rev that nobody takes for one of the future.
const REV: &str = "3l7vkzzzzzz2a";

/// The repos of a host, by number.
struct Host {
    name: String,
    repos: Range<u64>,
}

fn hosts_of(repos: u64) -> Vec<Host> {
    let large = repos * 9 / 10 / LARGE_HOSTS;
    let small = (repos - large * LARGE_HOSTS) / (HOSTS - LARGE_HOSTS);
    let mut next = 0;
    (0..HOSTS)
        .map(|number| {
            let size = match number {
                0..LARGE_HOSTS => large,
                _ if number + 1 == HOSTS => repos - next,
                _ => small,
            };
            let first = next;
            next += size;
            Host {
                name: format!("pds{number}.host.example"),
                repos: first..next,
            }
        })
        .collect()
}

/// The DID of a repo. The server makes the same ([`fill`]).
fn did(number: u64) -> String {
    let hash = Sha256::digest(number.to_string());
    let hex: String = hash.iter().take(12).fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    format!("did:plc:{hex}")
}

fn lines(host: &Host, numbers: Range<u64>) -> Vec<Line> {
    numbers
        .map(|number| Line {
            did: did(number),
            pds: Some((format!("https://{}", host.name), host.name.clone())),
            rev: Some(REV.to_owned()),
            status: None,
            is_settled: false,
        })
        .collect()
}

/// Has the server make the repos of a host, but the last `left`.
fn fill(client: &mut Client, host: &Host, left: u64) {
    let end = host.repos.end - left;
    if end == host.repos.start {
        return;
    }
    let sql = "INSERT INTO skyfill.repo (schema_name, did, pds, host, state, rev, records, car_bytes, proof, loaded_at, listing)
         SELECT $1, 'did:plc:' || left(encode(sha256(n::text::bytea), 'hex'), 24), 'https://' || $2, $2,
           CASE WHEN n % 10 = 0 THEN 'open' ELSE 'loaded' END, CASE WHEN n % 10 <> 0 THEN $5 END, 440, 200000,
           CASE WHEN n % 10 <> 0 THEN 'signed' END, CASE WHEN n % 10 <> 0 THEN now() END, 0
         FROM generate_series($3::bigint, $4::bigint) n";
    let number = |n: u64| i64::try_from(n).expect("a number of a repo");
    let range = (number(host.repos.start), number(end - 1));
    client
        .execute(sql, &[&SCHEMA, &host.name, &range.0, &range.1, &REV])
        .expect("fill");
}

/// What the server counted.
#[derive(Clone, Copy)]
struct Written {
    wal: i64,
    inserted: i64,
    updated: i64,
}

fn written(client: &mut Client) -> Written {
    let sql = "SELECT pg_stat_force_next_flush(), (pg_current_wal_insert_lsn() - '0/0')::bigint,
           pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid)
         FROM pg_class c WHERE c.oid = 'skyfill.repo'::regclass";
    client.query_one(sql, &[]).expect("flush");
    let row = client.query_one(sql, &[]).expect("count");
    Written {
        wal: row.get(1),
        inserted: row.get(2),
        updated: row.get(3),
    }
}

/// The report, row by row.
struct Table {
    out: String,
    client: Client,
}

impl Table {
    #[allow(clippy::cast_precision_loss)]
    fn measure(&mut self, what: &str, unit: &str, work: impl FnOnce() -> u64) {
        let before = written(&mut self.client);
        let started = Instant::now();
        let count = work();
        let seconds = started.elapsed().as_secs_f64();
        let after = written(&mut self.client);
        let rate = count as f64 / seconds;
        let _ = writeln!(
            self.out,
            "| {what} | {count} {unit} | {seconds:.2} | {rate:.0} | {:.1} | {} | {} |",
            (after.wal - before.wal) as f64 / 1e6,
            after.inserted - before.inserted,
            after.updated - before.updated
        );
        eprintln!("{what}: {count} {unit} in {seconds:.2} s, {rate:.0}/s");
    }

    /// A question that somebody waits for.
    fn ask<T>(&mut self, what: &str, work: impl FnOnce() -> T) -> T {
        let mut answer = None;
        self.measure(what, "question", || {
            answer = Some(work());
            1
        });
        answer.expect("it was asked")
    }
}

/// Stores pages of a host in the way of a pass.
fn list(client: &mut Client, pass: i64, host: &Host, numbers: Range<u64>) -> listing::Changes {
    let mut sum = listing::Changes::default();
    let mut next = numbers.start;
    while next < numbers.end {
        let page = lines(host, next..numbers.end.min(next + PAGE));
        let mut txn = client.transaction().expect("begin");
        let changes =
            listing::page(&mut txn, SCHEMA, pass, &page, "3zzzzzzzzzzzz").expect("a page");
        let count = page.len() as u64;
        listing::host_page(&mut txn, SCHEMA, &host.name, &next.to_string(), count).expect("host");
        txn.commit().expect("commit");
        sum.new += changes.new;
        sum.opened += changes.opened;
        next += PAGE;
    }
    sum
}

fn begin_pass(client: &mut Client, hosts: &[Host]) -> i64 {
    let (pass, _) = listing::begin(client, SCHEMA, "all", None).expect("begin a pass");
    let named: Vec<(String, String)> = hosts
        .iter()
        .map(|host| (host.name.clone(), format!("https://{}", host.name)))
        .collect();
    listing::add_hosts(client, SCHEMA, pass, &named).expect("add hosts");
    pass
}

/// Marks repos as loaded, in transactions of the loader's size.
fn mark(client: &mut Client, queue: &[(String, i64)]) -> u64 {
    let commit = vec![7u8; 230];
    let cid = "bafyreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut compacted = Instant::now();
    for batch in queue.chunks(BATCH) {
        let dids: Vec<&str> = batch.iter().map(|(did, _)| did.as_str()).collect();
        let leases: Vec<i64> = batch.iter().map(|(_, lease)| *lease).collect();
        client
            .batch_execute("BEGIN; SET LOCAL synchronous_commit = off")
            .expect("begin");
        let held = repos::lock(client, SCHEMA, &dids, &leases).expect("lock");
        assert_eq!(held.len(), batch.len());
        let stored: Vec<Stored<'_>> = dids
            .iter()
            .map(|did| Stored {
                did,
                rev: REV,
                commit_cid: cid,
                commit: &commit,
                records: 440,
                skipped: 3,
                duplicates: 0,
                car_bytes: 200_000,
                proof: Some(ledger::proofs::Proof::Signed),
                is_fork: false,
            })
            .collect();
        repos::loaded(client, SCHEMA, 1, &stored).expect("mark");
        client.batch_execute("COMMIT").expect("commit");
        if compacted.elapsed() > COMPACT {
            tally::compact(client, SCHEMA).expect("compact");
            compacted = Instant::now();
        }
    }
    queue.len() as u64
}

/// Reads the queues of leased hosts in the way of the feeder, up to so many repos.
fn read_queues(client: &mut Client, leased: &[Leased], most: usize) -> Vec<(String, i64)> {
    let mut queue = Vec::new();
    let mut after = vec![String::new(); leased.len()];
    while queue.len() < most {
        let before = queue.len();
        for (host, after) in leased.iter().zip(&mut after) {
            if queue.len() >= most {
                break;
            }
            let which = (host.host.as_str(), Which::All);
            let page = repos::open(client, SCHEMA, which, after, QUEUE).expect("a queue");
            if let Some(last) = page.last() {
                after.clone_from(&last.did);
            }
            queue.extend(page.into_iter().map(|open| (open.did, host.lease)));
        }
        if queue.len() == before {
            break;
        }
    }
    queue
}

fn sizes(client: &mut Client, out: &mut String) {
    out.push_str("\n| relation | MB | rows | dead rows |\n|---|---|---|---|\n");
    let sql = "SELECT c.relname::text, pg_table_size(c.oid) / 1000000, coalesce(s.n_live_tup, 0), coalesce(s.n_dead_tup, 0)
         FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
         WHERE c.relnamespace = 'skyfill'::regnamespace AND c.relkind IN ('r', 'i') AND pg_table_size(c.oid) > 200000
         ORDER BY pg_table_size(c.oid) DESC, 1";
    for row in client.query(sql, &[]).expect("sizes") {
        let numbers: (i64, i64, i64) = (row.get(1), row.get(2), row.get(3));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            row.get::<_, &str>(0),
            numbers.0,
            numbers.1,
            numbers.2
        );
    }
}

/// Whether the first change of a page after a checkpoint writes the whole page to the WAL.
fn pages_in_wal(client: &mut Client, on: &str) {
    let set = format!("ALTER SYSTEM SET full_page_writes = {on}");
    for statement in [set.as_str(), "SELECT pg_reload_conf()"] {
        client.batch_execute(statement).expect("a setting");
    }
}

/// A first pass over all hosts, and the new accounts at its end.
fn first_pass(table: &mut Table, client: &mut Client, hosts: &[Host], repos: u64) {
    let pass = begin_pass(client, hosts);
    let left = (NEW.min(repos / 10) / HOSTS).max(1);
    let started = Instant::now();
    // Nobody measures this, and DIDs fall on all pages of the index: after each checkpoint, nearly
    // every row would have the server write a whole page.
    pages_in_wal(client, "off");
    for host in hosts {
        let left = left.min(host.repos.end - host.repos.start);
        fill(client, host, left);
    }
    pages_in_wal(client, "on");
    eprintln!("filled in {:.0} s", started.elapsed().as_secs_f64());
    for statement in ["VACUUM (ANALYZE) skyfill.repo", "CHECKPOINT"] {
        client.batch_execute(statement).expect("vacuum");
    }
    tally::compact(client, SCHEMA).expect("compact");
    table.measure("pages of new accounts", "lines", || {
        let mut new = 0;
        for host in hosts {
            let first = host.repos.end.saturating_sub(left).max(host.repos.start);
            new += list(client, pass, host, first..host.repos.end).new;
        }
        new
    });
    end_hosts(client, hosts);
    listing::end(client, pass).expect("end the pass");
}

fn end_hosts(client: &mut Client, hosts: &[Host]) {
    for host in hosts {
        listing::host_ended(client, SCHEMA, &host.name, Listing::Whole).expect("end a host");
    }
}

fn second_pass(table: &mut Table, client: &mut Client, hosts: &[Host]) {
    let pass = begin_pass(client, hosts);
    table.measure("a pass without changes", "lines", || {
        let mut listed = 0;
        for host in hosts {
            let changes = list(client, pass, host, host.repos.clone());
            assert_eq!((changes.new, changes.opened), (0, 0), "{}", host.name);
            listed += host.repos.end - host.repos.start;
        }
        end_hosts(client, hosts);
        listed
    });
    let unlisted = table.ask("its end: repos that are listed no more", || {
        listing::open_unlisted(client, SCHEMA, pass).expect("compare")
    });
    assert_eq!(unlisted, 0);
    listing::end(client, pass).expect("end the pass");
}

fn run_begins(table: &mut Table, client: &mut Client) -> Vec<(String, i64)> {
    table.ask("start: how many repos are pending", || {
        repos::count_open(client, SCHEMA, Which::All).expect("count")
    });
    table.ask("start: the estimate", || {
        repos::pending(client, SCHEMA).expect("count")
    });
    hosts::enter(client).expect("enter");
    let leased = table.ask("start: 2,048 leases", || {
        hosts::lease(client, SCHEMA, hosts::Wish::new(Which::All, LEASED)).expect("lease")
    });
    let numbers: Vec<i64> = leased.iter().map(|host| host.lease).collect();
    table.ask("renewing them", || {
        workers::renew(client, SCHEMA, &numbers, hosts::LEASE, &Report::default()).expect("renew")
    });
    let mut queue = Vec::new();
    table.measure("queues read", "repos", || {
        queue = read_queues(client, &leased, MARKED);
        queue.len() as u64
    });
    table.measure("repos marked as loaded", "repos", || mark(client, &queue));
    table.ask("leasing again", || {
        hosts::lease(client, SCHEMA, hosts::Wish::new(Which::All, LEASED)).expect("lease")
    });
    table.ask("stop: leases given back", || {
        hosts::release(client, SCHEMA, &numbers).expect("release");
    });
    queue
}

fn questions(table: &mut Table, client: &mut Client, binary: Option<&Path>, url: &str) {
    table.ask("`status`: adding up counts", || {
        tally::compact(client, SCHEMA).expect("compact")
    });
    table.ask("`status`: coverage", || {
        Coverage::kept(client, SCHEMA).expect("coverage")
    });
    table.ask("`status`: hosts and failures", || {
        hosts::known(client, SCHEMA, Chosen::First(50)).expect("hosts");
        failures::by_reason(client, SCHEMA, None).expect("failures");
    });
    table.ask("the next 200 repos to verify", || {
        verified::page(client, SCHEMA, "", None, 200).expect("a page")
    });
    table.ask("the certificate: everything counted", || {
        Coverage::read(client, SCHEMA).expect("coverage");
        verified::count(client, SCHEMA).expect("verified")
    });
    if let Some(binary) = binary {
        table.ask("`skyfill status` as a process", || {
            let status = Command::new(binary)
                .arg("status")
                .env("BSKY_DB_POSTGRES_URL", url)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            assert!(status.is_ok_and(|status| status.code().is_some_and(|code| code < 2)));
        });
    }
}

/// Runs it; the report.
pub(crate) fn run(repos: u64, binary: Option<&Path>) -> String {
    let scene = Scene::with(&[("max_wal_size", "1GB"), ("checkpoint_timeout", "5min")]);
    scene.fresh("ledger");
    let (url, mut client) = (scene.url("ledger"), scene.connect("ledger"));
    ledger::prepare(&mut client, pg::Waits::SILENT).expect("the ledger");
    let hosts = hosts_of(repos);
    let mut table = Table {
        out: format!(
            "{repos} repos on {HOSTS} hosts, one connection. Rows are those of `skyfill.repo`.\n\n\
             | what | how many | seconds | per second | WAL MB | rows inserted | rows updated |\n|---|---|---|---|---|---|---|\n"
        ),
        client: scene.connect("ledger"),
    };
    first_pass(&mut table, &mut client, &hosts, repos);
    second_pass(&mut table, &mut client, &hosts);
    let mut sized = "\nAfter the pass without changes:\n".to_owned();
    sizes(&mut client, &mut sized);
    run_begins(&mut table, &mut client);
    questions(&mut table, &mut client, binary, &url);
    sized.push_str("\nAfter the marks:\n");
    sizes(&mut client, &mut sized);
    table.out + &sized
}
