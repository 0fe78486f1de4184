//! Following: commits that are applied one by one leave the tables that a load of the repos leaves.

use atrepo::{Cid, Codec, RootBuilder};
use ledger::follow;
use load::live::{Applied, Applier, ApplierOptions, LiveCommit, LiveOp};
use load::{Choice, fresh};
use postgres::Client;
use serde_json::Value;
use simnet::{Answer, Random};
use std::collections::BTreeMap;
use std::process::Output;
use std::sync::Arc;
use testbed::*;

/// The time of all events, on a day that not every month has; records that are first seen as
/// events have it.
const EVENT: &str = "2026-10-31T00:00:00.000Z";

/// Records of a repo, by key.
type Records = BTreeMap<String, Vec<u8>>;

/// Rows without their times: those of records that came as events are the times of the events.
pub(crate) fn without_times(db: &TestDb) -> BTreeMap<String, Vec<String>> {
    let strip = |row: &String| {
        let mut row: Value = serde_json::from_str(row).unwrap();
        for time in ["indexedAt", "sortAt", "sortedAt"] {
            row.as_object_mut().unwrap().remove(time);
        }
        row.to_string()
    };
    let strip_all = |(table, rows): (String, Vec<String>)| {
        let rows = canonical(rows.iter().map(strip));
        (table, rows)
    };
    db.dump().into_iter().map(strip_all).collect()
}

fn root_of(records: &Records) -> Cid {
    let mut root = RootBuilder::default();
    for (key, block) in records {
        assert!(root.add(key.as_bytes(), Cid::of(Codec::DagCbor, block)));
    }
    root.root()
}

/// A commit's block, without a signature that holds: what is applied was checked before.
fn commit_block(did: &str, rev: &str, data: Cid) -> Vec<u8> {
    let mut w = atrepo::cbor::Writer::new();
    w.map(6).text("did").text(did).text("rev").text(rev);
    w.text("sig").bytes(&[0; 64]).text("data").cid(&data);
    w.text("prev").null().text("version").unsigned(3);
    w.into_bytes()
}

/// The commits that lead from the records of one CAR to those of the next, a few operations each.
/// The last one is the commit of the CAR.
fn commits_between(did: &str, before: &[u8], after: &[u8], random: &mut Random) -> Vec<LiveCommit> {
    let repo = atrepo::Repo::open(after, did).unwrap();
    let mut records: Records = records_of(before, did).into_iter().collect();
    let goal: Records = records_of(after, did).into_iter().collect();
    let mut keys: Vec<&String> = records
        .keys()
        .chain(goal.keys())
        .filter(|key| records.get(*key) != goal.get(*key))
        .collect();
    keys.sort();
    keys.dedup();
    let mut keys: Vec<String> = keys.into_iter().cloned().collect();
    for at in (1..keys.len()).rev() {
        keys.swap(at, random.index(at + 1));
    }
    let begin = atrepo::syntax::tid_micros(&atrepo::Repo::open(before, did).unwrap().commit().rev);
    let mut micros = begin.unwrap();
    let mut commits = Vec::new();
    while !keys.is_empty() {
        let count = (1 + random.index(4)).min(keys.len());
        let prev_data = root_of(&records);
        let ops: Vec<LiveOp> = keys
            .drain(..count)
            .map(|key| {
                let existed = records.remove(&key).is_some();
                let now = goal.get(&key).map(|block| {
                    records.insert(key.clone(), block.clone());
                    (Cid::of(Codec::DagCbor, block), block.clone().into())
                });
                LiveOp { key, existed, now }
            })
            .collect();
        micros += 1;
        let (rev, data) = (atrepo::syntax::tid(micros, 2), root_of(&records));
        let is_last = keys.is_empty();
        let (rev, commit) = match is_last {
            true => (repo.commit().rev.clone(), repo.commit().block.clone()),
            false => (rev.clone(), commit_block(did, &rev, data)),
        };
        commits.push(LiveCommit {
            did: did.to_owned(),
            rev,
            commit_cid: Cid::of(Codec::DagCbor, &commit),
            commit,
            data,
            prev_data,
            time: EVENT.to_owned(),
            ops,
            at: ("http://x.test".to_owned(), String::new()),
        });
    }
    commits
}

/// Repos that are loaded, and what happened to them since.
pub(crate) struct World {
    pub(crate) net: Net,
    pub(crate) earlier: BTreeMap<String, Vec<u8>>,
    pub(crate) later: BTreeMap<String, Vec<u8>>,
    pub(crate) commits: BTreeMap<String, Vec<LiveCommit>>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let tangles = [seed, seed + 1].map(|seed| simnet::Tangle::knotted(seed, 6, 220));
        let mut earlier = BTreeMap::new();
        for tangle in &tangles {
            earlier.extend(tangle.dids().map(|did| (did.to_owned(), tangle.car(did))));
        }
        let net = Net::of_cars(earlier.clone());
        let (mut later_cars, mut commits) = (BTreeMap::new(), BTreeMap::new());
        for (did, car) in &earlier {
            net.set_document(did, &simnet::document(did, "x.test", &net.server.url()));
            let first = later(car, did, &mut random);
            let second = later(&first, did, &mut random);
            let mut all = commits_between(did, car, &first, &mut random);
            all.extend(commits_between(did, &first, &second, &mut random));
            for commit in &mut all {
                commit.at = (net.server.url(), fetch::hosts::host_of(&net.server.url()));
            }
            commits.insert(did.clone(), all);
            later_cars.insert(did.clone(), second);
        }
        Self {
            net,
            earlier,
            later: later_cars,
            commits,
        }
    }

    pub(crate) fn serve(&self, cars: &BTreeMap<String, Vec<u8>>) {
        for (did, car) in cars {
            self.net
                .server
                .set(did, Answer::Repo(Arc::new(car.clone())));
        }
    }

    pub(crate) fn run(&self, db: &TestDb) -> Output {
        let dir = folder();
        let dids = self.net.dids.iter().map(String::as_str);
        let file = did_file(dir.path(), &self.net.server.url(), dids);
        let mut command = run_load(&db.url);
        command.args(["--no-verify", "--plc-url", &self.net.server.url()]);
        run_well(command.arg(file))
    }

    /// A database that holds the earlier repos, and one that holds the later ones.
    fn loaded(&self) -> (TestDb, TestDb) {
        let (live, whole) = (TestDb::migrated(), TestDb::migrated());
        self.serve(&self.earlier);
        self.run(&live);
        self.serve(&self.later);
        self.run(&whole);
        let mut client = live.client();
        follow::begin(&mut client, "bsky", "http://relay.test", EVENT).unwrap();
        (live, whole)
    }
}

pub(crate) fn applier(db: &TestDb, client: &mut Client) -> Applier {
    Applier::new(ApplierOptions {
        url: db.url.clone(),
        schema: "bsky".to_owned(),
        choice: Choice::ALL,
        indexed: fresh::indexed_columns(client, "bsky").unwrap(),
    })
}

fn changes_of_lists(client: &mut Client) -> i64 {
    let sql = "SELECT count(*) FROM skyfill.skipped_change";
    client.query_one(sql, &[]).unwrap().get(0)
}

pub(crate) fn assert_proved(db: &TestDb) {
    let mut command = skyfill();
    command.args(["verify", "--all"]);
    run_well(command.env("BSKY_DB_POSTGRES_URL", &db.url));
}

#[test]
fn commits_applied_in_any_batches_leave_the_tables_of_a_load() {
    let world = World::new(1801);
    let (live, whole) = world.loaded();
    let mut client = live.client();
    let mut applier = applier(&live, &mut client);
    let mut random = Random::new(7);
    let mut left: Vec<(String, Vec<LiveCommit>)> = world.commits.clone().into_iter().collect();
    let all: usize = left.iter().map(|(_, commits)| commits.len()).sum();
    let mut total = Applied::default();
    let mut batches = 0;
    while !left.is_empty() {
        let mut batch = Vec::new();
        for _ in 0..=random.index(25) {
            if left.is_empty() {
                break;
            }
            let at = random.index(left.len());
            batch.push(left[at].1.remove(0));
            if left[at].1.is_empty() {
                left.swap_remove(at);
            }
        }
        total.add(applier.apply(&batch, &[]).unwrap());
        batches += 1;
        if batches % 4 == 0 {
            // What comes again changes nothing.
            let again = applier.apply(&batch, &[]).unwrap();
            assert_eq!((again.commits, again.repeated), (0, batch.len() as u64));
            run_well(&mut finalize(&live));
        }
    }
    assert!(batches > 10, "{batches}");
    assert_eq!((total.commits, total.opened), (all as u64, 0));
    run_well(&mut finalize(&live));
    if let Some(difference) = difference(&without_times(&live), &without_times(&whole)) {
        panic!("{difference}");
    }
    assert_proved(&live);
    let counts =
        "SELECT did, records, skipped, duplicates, rev, commit_cid FROM skyfill.repo ORDER BY did";
    let counts = |db: &TestDb| -> Vec<String> {
        let row = |row: &postgres::Row| {
            let numbers: Vec<i64> = (1..4).map(|at| row.get(at)).collect();
            format!(
                "{} {numbers:?} {} {}",
                row.get::<_, &str>(0),
                row.get::<_, &str>(4),
                row.get::<_, &str>(5)
            )
        };
        db.client()
            .query(counts, &[])
            .unwrap()
            .iter()
            .map(row)
            .collect()
    };
    assert_eq!(counts(&live), counts(&whole));
    assert!(
        live.count("duplicate_record") > 5,
        "nothing was a duplicate"
    );
    let changes = changes_of_lists(&mut client);
    assert!(changes > 5, "no list of skipped records changed: {changes}");
    for did in &world.net.dids {
        assert!(ledger::fold::fold(&mut client, "bsky", did).unwrap());
    }
    assert_eq!(changes_of_lists(&mut client), 0);
    assert_proved(&live);
}

#[test]
fn what_does_not_continue_the_stored_commit_is_fetched() {
    let world = World::new(1811);
    let (live, whole) = world.loaded();
    let mut client = live.client();
    let mut applier = applier(&live, &mut client);
    // Of each account one commit is lost; what comes after it is left to a merge.
    let mut opened = 0;
    for (number, commits) in world.commits.values().enumerate() {
        let lost = number % commits.len().min(5);
        let mut rest = commits.clone();
        rest.remove(lost);
        let applied = applier.apply(&rest, &[]).unwrap();
        assert_eq!(applied.commits, lost as u64, "{applied:?}");
        opened += applied.opened;
    }
    assert_eq!(opened, world.commits.len() as u64);
    assert_eq!(follow::count_untried(&mut client, "bsky").unwrap(), opened,);
    world.run(&live);
    assert_eq!(follow::settle(&mut client, "bsky").unwrap(), 0);
    assert_eq!(follow::count_behind(&mut client, "bsky").unwrap(), 0);
    if let Some(difference) = difference(&without_times(&live), &without_times(&whole)) {
        panic!("{difference}");
    }
    assert_proved(&live);
}

/// Somebody has many large records with one unique key. The next one would have all of them read,
/// event after event: the repo is merged instead, and the others of the batch are stored.
#[test]
fn an_account_with_many_rivals_is_left_to_a_merge() {
    let mut world = World::new(1821);
    let did = world.net.dids[0].clone();
    let before = world.earlier[&did].clone();
    let like = |number: u64| {
        let mut w = atrepo::cbor::Writer::new();
        w.map(4)
            .text("pad")
            .text(&format!("{number}{}", "x".repeat(900_000)));
        w.text("$type").text("app.bsky.feed.like").text("subject");
        w.map(2)
            .text("cid")
            .text("bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a");
        w.text("uri").text("at://did:plc:a/app.bsky.feed.post/1");
        w.text("createdAt").text("2024-01-01T00:00:00.000Z");
        let key = format!(
            "app.bsky.feed.like/{}",
            atrepo::syntax::tid(1_600_000_000_000_000 + number, 4)
        );
        (key, w.into_bytes())
    };
    let records = records_of(&before, &did);
    let rev = atrepo::Repo::open(&before, &did)
        .unwrap()
        .commit()
        .rev
        .clone();
    let micros = atrepo::syntax::tid_micros(&rev).unwrap();
    let car = |count: u64| {
        let all = records
            .iter()
            .cloned()
            .chain((0..count).map(like))
            .collect();
        simnet::build_repo(&did, &atrepo::syntax::tid(micros + count, 1), all)
    };
    let (many, one_more) = (car(20), car(21));
    let mut commits = commits_between(&did, &many, &one_more, &mut Random::new(1));
    for commit in &mut commits {
        commit.at = world.commits.values().next().unwrap()[0].at.clone();
    }
    world.earlier.insert(did.clone(), many);
    world.later.insert(did.clone(), one_more);
    let (live, whole) = world.loaded();
    let mut client = live.client();
    let mut applier = applier(&live, &mut client);
    let others = world.commits.iter().filter(|(other, _)| **other != did);
    let mut batch: Vec<LiveCommit> = others.flat_map(|(_, commits)| commits.clone()).collect();
    let count = batch.len() as u64;
    batch.extend(commits);
    let applied = applier.apply(&batch, &[]).unwrap();
    assert_eq!((applied.commits, applied.opened), (count, 1), "{applied:?}");
    world.run(&live);
    assert_eq!(follow::settle(&mut client, "bsky").unwrap(), 0);
    if let Some(difference) = difference(&without_times(&live), &without_times(&whole)) {
        panic!("{difference}");
    }
}
