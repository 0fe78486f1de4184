//! Nobody's word but the account's: forged repos, revs in the future, forks, hosts that claim what
//! is not theirs, directories that are away.

use simnet::{Answer, Server};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use testbed::*;

/// A rev in the year 2540, the last one that there is.
const FUTURE: &str = "jzzzzzzzzzzzz";
pub(crate) const DID: &str = "did:plc:honest";

/// A rev of a day of January 2025.
pub(crate) fn rev(day: u64) -> String {
    atrepo::syntax::tid(1_735_689_600_000_000 + day * 86_400_000_000, 1)
}

/// A repo with a post, signed by the key of `did`.
pub(crate) fn repo(did: &str, rev: &str, text: &str) -> Vec<u8> {
    let mut w = atrepo::cbor::Writer::new();
    w.map(3)
        .text("text")
        .text(text)
        .text("$type")
        .text("app.bsky.feed.post")
        .text("createdAt")
        .text("2025-01-01T00:00:00.000Z");
    let key = "app.bsky.feed.post/3lefaaaaaaa22".to_owned();
    simnet::build_repo(did, rev, vec![(key, w.into_bytes())])
}

/// The same, signed by somebody else's key.
pub(crate) fn forged(did: &str, rev: &str, text: &str) -> Vec<u8> {
    let car = repo(did, rev, text);
    let (root, blocks) = atrepo::BlockIndex::build(car.as_slice()).unwrap();
    let commit = atrepo::Commit::parse(blocks.get(&root).unwrap()).unwrap();
    let bad: Vec<u8> = simnet::sign("did:plc:somebody-else", &commit.unsigned());
    let at = car
        .windows(commit.sig.len())
        .position(|window| window == commit.sig)
        .unwrap();
    let mut block = commit.block.clone();
    let in_block = block
        .windows(commit.sig.len())
        .position(|window| window == commit.sig)
        .unwrap();
    block[in_block..in_block + bad.len()].copy_from_slice(&bad);
    let cid = atrepo::Cid::of(atrepo::Codec::DagCbor, &block);
    // The old CID stands in the header and before the section.
    let mut forged = car.clone();
    forged[at..at + bad.len()].copy_from_slice(&bad);
    let (old, new) = (root.to_bytes(), cid.to_bytes());
    for place in 0..=forged.len() - old.len() {
        if forged[place..].starts_with(&old) {
            forged[place..place + old.len()].copy_from_slice(&new);
        }
    }
    atrepo::Repo::open(forged.as_slice(), did).unwrap();
    forged
}

/// A host of these repos, which lists them with the revs in them.
pub(crate) struct Host {
    pub(crate) server: Server,
}

impl Host {
    pub(crate) fn of(cars: &[(&str, Vec<u8>)]) -> Self {
        let host = Self {
            server: Server::start(HashMap::new()),
        };
        host.serves(cars);
        host
    }

    pub(crate) fn serves(&self, cars: &[(&str, Vec<u8>)]) {
        for (did, car) in cars {
            self.server.set(did, Answer::Repo(Arc::new(car.clone())));
        }
        self.server.set("", Self::list(cars));
    }

    /// The list of these repos.
    pub(crate) fn list(cars: &[(&str, Vec<u8>)]) -> Answer {
        let line = |(did, car): &(&str, Vec<u8>)| {
            let repo = atrepo::Repo::open(car.as_slice(), did).unwrap();
            let rev = &repo.commit().rev;
            format!("{{\"did\":\"{did}\",\"head\":\"x\",\"rev\":\"{rev}\",\"active\":true}}")
        };
        let lines: Vec<String> = cars.iter().map(line).collect();
        Answer::text(format!("{{\"repos\":[{}]}}", lines.join(",")))
    }

    fn lists(&self, lines: &str) {
        self.server
            .set("", Answer::text(format!("{{\"repos\":[{lines}]}}")));
    }

    /// Lets it answer nothing of use, or as before.
    fn is_away(&self, dids: &[&str]) {
        for asked in dids.iter().chain(&[""]) {
            self.server
                .set(asked, Answer::Status(503, Vec::new(), String::new()));
        }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn name(&self) -> String {
        self.url().trim_start_matches("http://").to_owned()
    }
}

/// A directory in which these accounts live on `host`.
pub(crate) fn directory(dids: &[&str], host: &Host) -> Server {
    let directory = Server::start(HashMap::new());
    for did in dids {
        lives_on(&directory, did, host);
    }
    directory
}

pub(crate) fn lives_on(directory: &Server, did: &str, host: &Host) {
    directory.set(
        &format!("plc {did}"),
        Answer::text(simnet::document(did, "alice.test", &host.url())),
    );
    directory.set(&format!("audit {did}"), Answer::text("[]"));
}

/// A command with that directory.
fn skyfill_with(command: &str, db: &TestDb, directory: &Server) -> Command {
    let mut skyfill = skyfill();
    skyfill.args([
        command,
        "--json",
        "--allow-private-hosts",
        "--relay",
        "http://127.0.0.1:9",
        "--plc-url",
    ]);
    skyfill.args([&directory.url(), "--plc-rate", "5000", "--timeout", "2"]);
    skyfill.env("BSKY_DB_POSTGRES_URL", &db.url);
    skyfill
}

/// A run that looks up accounts and discovers on these hosts.
fn run_over(db: &TestDb, directory: &Server, hosts: &[&Host]) -> Command {
    let mut run = skyfill_with("run", db, directory);
    run.args([
        "--handles",
        "claimed",
        "--now",
        NOW,
        "--host-rate",
        "5000",
        "--max-attempts",
        "1",
    ]);
    for host in hosts {
        run.args(["--pds", &host.url()]);
    }
    run
}

/// What the ledger has of an account: state, host, proof, error.
pub(crate) fn ledger_of(db: &TestDb, did: &str) -> (String, String, Option<String>, String) {
    let row = db
        .client()
        .query_one(
            "SELECT state, host, proof, coalesce(error_code || ': ' || error, '') FROM skyfill.repo WHERE did = $1",
            &[&did],
        )
        .unwrap();
    (row.get(0), row.get(1), row.get(2), row.get(3))
}

fn status_of(db: &TestDb) -> serde_json::Value {
    let output = skyfill()
        .args(["status", "--json"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", told(&output)))
}

fn certificate_of(db: &TestDb, dir: &Path) -> serde_json::Value {
    let path = dir.join("certificate.json");
    let mut verify = skyfill();
    verify
        .args(["verify", "--all", "--certificate"])
        .arg(&path)
        .env("BSKY_DB_POSTGRES_URL", &db.url);
    verify.output().unwrap();
    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap()
}

/// The tables are those of a load of this CAR from this host alone.
pub(crate) fn assert_loaded_alone(db: &TestDb, directory: &Server, car: &[u8], name: &str) {
    let host = Host::of(&[(DID, car.to_vec())]);
    let reference = TestDb::migrated();
    lives_on(directory, DID, &host);
    run_well(&mut run_over(&reference, directory, &[&host]));
    if let Some(difference) = difference(&db.dump(), &reference.dump()) {
        panic!("{name}: {difference}");
    }
}

pub(crate) fn texts(db: &TestDb) -> Vec<String> {
    let rows = db
        .client()
        .query("SELECT text FROM bsky.post ORDER BY text", &[])
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// While the good host is away, another one lists the account and serves a forgery.
#[test]
fn a_forgery_that_was_loaded_while_the_good_host_was_away_is_gone_after_the_next_pass() {
    for (forged_rev, directory_is_away) in [
        (rev(9), false),
        (rev(9), true),
        (FUTURE.to_owned(), false),
        (FUTURE.to_owned(), true),
    ] {
        let name = format!("rev {forged_rev}, directory away: {directory_is_away}");
        let (db, dir) = (TestDb::migrated(), folder());
        let true_car = repo(DID, &rev(3), "true");
        let good = Host::of(&[(DID, true_car.clone())]);
        let evil = Host::of(&[(DID, forged(DID, &forged_rev, "forged"))]);
        let directory = directory(&[DID], &good);
        good.is_away(&[DID, &format!("latest {DID}")]);
        if directory_is_away {
            directory.set(
                &format!("plc {DID}"),
                Answer::Status(503, Vec::new(), String::new()),
            );
        }
        let output = run_over(&db, &directory, &[&good, &evil]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {}", told(&output));
        let is_future = forged_rev == FUTURE;
        assert_eq!(
            texts(&db),
            if is_future { vec![] } else { vec!["forged"] },
            "{name}"
        );
        if is_future {
            let (state, .., error) = ledger_of(&db, DID);
            assert_eq!(state, "failed", "{name}");
            assert!(
                error.starts_with("rev in the future: ") && error.contains("is dated 2540-"),
                "{error}"
            );
        } else {
            let certificate = certificate_of(&db, dir.path());
            let unproved = certificate["proof"]["unproved"].as_u64().unwrap()
                + certificate["proof"]["forged"].as_u64().unwrap();
            assert_eq!(unproved, 1, "{name}: {certificate}");
            assert_eq!(status_of(&db)["proof"], certificate["proof"], "{name}");
        }
        // All is well again; nobody says a word about it.
        good.serves(&[(DID, true_car.clone())]);
        good.server.set(
            &format!("latest {DID}"),
            Answer::error(501, "MethodNotImplemented"),
        );
        lives_on(&directory, DID, &good);
        let output = run_over(&db, &directory, &[&good, &evil]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", told(&output));
        assert_eq!(summary(&output)["differences"], 0, "{name}");
        assert_eq!(texts(&db), ["true"], "{name}");
        let (state, host, proof, _) = ledger_of(&db, DID);
        assert_eq!(
            (state.as_str(), host, proof.as_deref()),
            ("loaded", good.name(), Some("signed")),
            "{name}"
        );
        assert_loaded_alone(&db, &directory, &true_car, &name);
    }
}

/// In one run: what was loaded before its document was known is proved by the lookup of accounts,
/// and replaced.
#[test]
fn a_forgery_is_found_and_replaced_in_the_run_that_loaded_it() {
    let db = TestDb::migrated();
    let true_car = repo(DID, &rev(3), "true");
    let good = Host::of(&[(DID, true_car.clone())]);
    let evil = Host::of(&[(DID, forged(DID, &rev(9), "forged"))]);
    let directory = directory(&[DID], &good);
    let output = run_well(&mut run_over(&db, &directory, &[&evil]));
    assert!(
        told(&output).contains("loading 1 repo again: what is stored is not the account's own"),
        "{}",
        told(&output)
    );
    assert_eq!(
        (texts(&db), summary(&output)["unproved"].as_u64()),
        (vec!["true".to_owned()], Some(0))
    );
    assert_loaded_alone(&db, &directory, &true_car, "replaced");
    lives_on(&directory, DID, &good);
    // A document that is known when it is fetched refuses it before it is stored.
    let file = folder();
    let list = did_file(file.path(), &evil.url(), [DID]);
    good.is_away(&[DID, &format!("latest {DID}")]);
    run_over(&db, &directory, &[]).arg(&list).output().unwrap();
    assert_eq!(texts(&db), ["true"]);
    let proof = ledger_of(&db, DID).2;
    assert_eq!(proof.as_deref(), Some("signed"));
}

/// What an older version of skyfill stored, or an honest host with a wrong clock.
#[test]
fn a_stored_rev_in_the_future_binds_nobody() {
    let (db, dir) = (TestDb::migrated(), folder());
    let good = Host::of(&[(DID, repo(DID, &rev(3), "old"))]);
    let directory = directory(&[DID], &good);
    run_well(&mut run_over(&db, &directory, &[&good]));
    db.client()
        .batch_execute(&format!(
            "UPDATE skyfill.repo SET rev = '{FUTURE}'; UPDATE bsky.actor_sync SET \"repoRev\" = '{FUTURE}'"
        ))
        .unwrap();
    let car = repo(DID, &rev(5), "new");
    good.serves(&[(DID, car.clone())]);
    run_well(&mut run_over(&db, &directory, &[&good]));
    assert_loaded_alone(&db, &directory, &car, "by discovery");
    lives_on(&directory, DID, &good);
    // A consumer, too.
    db.client()
        .batch_execute(&format!(
            "UPDATE skyfill.repo SET rev = '{FUTURE}'; UPDATE bsky.actor_sync SET \"repoRev\" = '{FUTURE}'"
        ))
        .unwrap();
    let newer = repo(DID, &rev(6), "newer");
    good.serves(&[(DID, newer)]);
    let consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    let file = did_file(dir.path(), &good.url(), [DID]);
    let output = producer(dir.path(), &file, &[&consumer.socket])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(consumer.stop(), Some(0));
    assert_eq!(texts(&db), ["newer"]);
    // The other way round: a rev in the future is not taken, by nobody.
    good.serves(&[(DID, repo(DID, FUTURE, "future"))]);
    let output = run_over(&db, &directory, &[]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    let output = producer(dir.path(), &file, &[&consumer.socket])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("rev in the future"),
        "{}",
        told(&output)
    );
    consumer.stop();
    assert_eq!(texts(&db), ["newer"]);
}

/// `verify --repair` and `rebuild`: what is there now is taken, whatever its rev.
#[test]
fn a_repair_takes_an_older_rev() {
    let (db, dir) = (TestDb::migrated(), folder());
    let good = Host::of(&[(DID, repo(DID, &rev(8), "newer"))]);
    let directory = directory(&[DID], &good);
    run_well(&mut run_over(&db, &directory, &[&good]));
    good.serves(&[(DID, repo(DID, &rev(3), "older"))]);
    let file = did_file(dir.path(), &good.url(), [DID]);
    let output = run_over(&db, &directory, &[]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(ledger_of(&db, DID).3.split(':').next(), Some("older"));
    db.client()
        .batch_execute("UPDATE bsky.post SET text = 'changed'")
        .unwrap();
    let repair = skyfill()
        .args(["verify", "--all", "--repair"])
        .env("BSKY_DB_POSTGRES_URL", &db.url)
        .output()
        .unwrap();
    assert_eq!(repair.status.code(), Some(1), "{}", told(&repair));
    run_well(&mut run_over(&db, &directory, &[]));
    assert_eq!(texts(&db), ["older"]);
}

/// The same rev with another commit is noticed, and the document tells which of the two is the
/// account's.
#[test]
fn another_commit_of_the_same_rev_is_noticed() {
    let (db, dir) = (TestDb::migrated(), folder());
    let good = Host::of(&[(DID, repo(DID, &rev(3), "one"))]);
    let directory = directory(&[DID], &good);
    run_well(&mut run_over(&db, &directory, &[&good]));
    good.serves(&[(DID, repo(DID, &rev(3), "another"))]);
    let file = did_file(dir.path(), &good.url(), [DID]);
    let output = run_well(run_over(&db, &directory, &[]).arg(&file));
    assert_eq!(summary(&output)["forks"], 1, "{}", told(&output));
    assert_eq!(
        (texts(&db), status_of(&db)["proof"]["forks"].as_u64()),
        (vec!["another".to_owned()], Some(1))
    );
    // A forged one is not taken.
    good.serves(&[(DID, forged(DID, &rev(3), "forged"))]);
    let output = run_over(&db, &directory, &[]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let (.., error) = ledger_of(&db, DID);
    assert!(error.starts_with("forged: "), "{error}");
    assert_eq!(texts(&db), ["another"]);
}

/// A key that was changed since the last commit.
#[test]
fn an_older_key_of_the_log_is_taken_and_noted() {
    let db = TestDb::migrated();
    let good = Host::of(&[(DID, repo(DID, &rev(3), "true"))]);
    let directory = directory(&[DID], &good);
    let old = simnet::signing_key(DID);
    let document = simnet::document(DID, "alice.test", &good.url());
    directory.set(
        &format!("plc {DID}"),
        Answer::text(document.replace(&old, &simnet::signing_key_of(DID, 1))),
    );
    let operation = format!(
        "[{{\"operation\":{{\"verificationMethods\":{{\"atproto\":\"did:key:{old}\"}}}}}}]"
    );
    directory.set(&format!("audit {DID}"), Answer::text(operation));
    run_well(&mut run_over(&db, &directory, &[&good]));
    assert_eq!(ledger_of(&db, DID).2.as_deref(), Some("older key"));
    assert_eq!(status_of(&db)["proof"]["olderKey"], 1);
    // Nothing is asked about it the next time.
    let before = directory.requests();
    run_well(&mut run_over(&db, &directory, &[&good]));
    assert_eq!(directory.requests(), before);
}

/// A host that claims what is not its own costs the others something once.
#[test]
fn a_claim_that_was_settled_stays_settled() {
    let db = TestDb::migrated();
    let dids: Vec<String> = (0..50).map(|n| format!("did:plc:account{n:02}")).collect();
    let cars: Vec<(&str, Vec<u8>)> = dids
        .iter()
        .map(|did| (did.as_str(), repo(did, &rev(3), "true")))
        .collect();
    let names: Vec<&str> = dids.iter().map(String::as_str).collect();
    let good = Host::of(&cars);
    let directory = directory(&names, &good);
    run_well(&mut run_over(&db, &directory, &[&good]));
    // It lists them at a later rev.
    let evil = Host::of(&[]);
    let lines = |n: u64| -> String {
        let line = |did: &String| {
            format!(
                "{{\"did\":\"{did}\",\"head\":\"x\",\"rev\":\"{}\",\"active\":true}}",
                rev(n)
            )
        };
        dids.iter().map(line).collect::<Vec<String>>().join(",")
    };
    evil.lists(&lines(20));
    let asked = || (directory.requests(), good.server.requests());
    let mut pass = run_over(&db, &directory, &[&good, &evil]);
    let before = asked();
    let output = run_well(&mut pass);
    assert!(
        told(&output).contains("50 contested by two hosts"),
        "{}",
        told(&output)
    );
    // Each document once; and the list of the honest host, none of whose repos is fetched.
    assert_eq!((asked().0 - before.0, asked().1 - before.1), (50, 1));
    for n in [21, 22] {
        evil.lists(&lines(n));
        let before = asked();
        run_well(&mut pass);
        assert_eq!(
            (asked().0 - before.0, asked().1 - before.1),
            (0, 1),
            "pass {n}"
        );
    }
    // Another host's word is a new one, and a document that changed is believed.
    let other = Host::of(&[(&dids[0], repo(&dids[0], &rev(5), "moved"))]);
    let before = asked();
    run_well(&mut run_over(&db, &directory, &[&good, &evil, &other]));
    assert_eq!(asked().0 - before.0, 1);
    lives_on(&directory, &dids[0], &evil);
    evil.serves(&[(&dids[0], repo(&dids[0], &rev(6), "moved"))]);
    good.serves(&cars[1..]);
    good.server
        .set(&dids[0], Answer::error(400, "RepoNotFound"));
    run_well(&mut run_over(&db, &directory, &[&good, &evil]));
    assert_eq!(ledger_of(&db, &dids[0]).1, evil.name());
    assert_eq!(texts(&db).iter().filter(|text| *text == "moved").count(), 1);
}

/// Of a host that lost many claims nobody believes the rest, and what it was the first to list goes
/// to whoever else lists it.
#[test]
fn a_liar_is_believed_last() {
    let db = TestDb::migrated();
    let dids: Vec<String> = (0..600).map(|n| format!("did:plc:account{n:03}")).collect();
    let cars: Vec<(&str, Vec<u8>)> = dids
        .iter()
        .map(|did| (did.as_str(), repo(did, &rev(3), "true")))
        .collect();
    let names: Vec<&str> = dids.iter().map(String::as_str).collect();
    let good = Host::of(&cars);
    let directory = directory(&names, &good);
    let lies: Vec<(&str, Vec<u8>)> = dids
        .iter()
        .map(|did| (did.as_str(), forged(did, &rev(9), "forged")))
        .collect();
    let evil = Host::of(&lies);
    // The liar was first to list them all.
    let mut discover = skyfill_with("discover", &db, &directory);
    run_well(discover.args(["--host-rate", "5000", "--pds", &evil.url()]));
    let before = directory.requests();
    let mut discover = skyfill_with("discover", &db, &directory);
    run_well(discover.args([
        "--host-rate",
        "5000",
        "--pds",
        &good.url(),
        "--pds",
        &evil.url(),
    ]));
    let asked = directory.requests() - before;
    assert!((20..=500).contains(&asked), "{asked} documents");
    let sql = "SELECT count(*) FROM skyfill.repo WHERE state = 'open' AND host = $1";
    let on_good: i64 = db.client().query_one(sql, &[&good.name()]).unwrap().get(0);
    assert_eq!(on_good, 600);
}

/// One line with `http://` takes TLS away from nobody.
#[test]
fn a_hosts_url_is_not_downgraded_by_somebody_elses_word() {
    let db = TestDb::migrated();
    skyfill_with("discover", &db, &Server::start(HashMap::new()))
        .args(["--pds", "http://127.0.0.1:9"])
        .output()
        .unwrap();
    let mut client = db.client();
    let url_of = |client: &mut postgres::Client, host: &str| -> Option<String> {
        client
            .query_one("SELECT url FROM skyfill.host WHERE host = $1", &[&host])
            .unwrap()
            .get(0)
    };
    let wanted = |did: &str, pds: &str| ledger::repos::Wanted {
        did: did.to_owned(),
        pds: pds.to_owned(),
        host: "pds.example".to_owned(),
    };
    let (plain, tls) = ("http://pds.example", "https://pds.example");
    for lines in [[plain, tls], [tls, plain]] {
        let wanted = [wanted("did:plc:a", lines[0]), wanted("did:plc:b", lines[1])];
        client.batch_execute("DELETE FROM skyfill.host").unwrap();
        ledger::repos::add(&mut client, "bsky", &wanted).unwrap();
        assert_eq!(url_of(&mut client, "pds.example").as_deref(), Some(tls));
        // One after the other.
        client.batch_execute("DELETE FROM skyfill.host").unwrap();
        for one in wanted {
            ledger::repos::add(&mut client, "bsky", &[one]).unwrap();
        }
        assert_eq!(url_of(&mut client, "pds.example").as_deref(), Some(tls));
    }
    // An account's own document speaks for that account.
    let own: String = client
        .query_one("SELECT pds FROM skyfill.repo WHERE did = 'did:plc:a'", &[])
        .unwrap()
        .get(0);
    assert_eq!(own, tls);
}

#[test]
fn a_document_that_names_a_private_host_has_nobody_asked() {
    let db = TestDb::migrated();
    let host = Host::of(&[(DID, repo(DID, &rev(3), "true"))]);
    let directory = directory(&[DID], &host);
    let mut run = run_over(&db, &directory, &[]);
    run.args(["--did", DID]);
    // The operator names the directory, and nothing else.
    let mut strict = skyfill();
    strict.args(run.get_args().filter(|arg| *arg != "--allow-private-hosts"));
    strict.env("BSKY_DB_POSTGRES_URL", &db.url);
    let before = host.server.requests();
    let output = strict.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(host.server.requests(), before, "{}", told(&output));
    let (state, _, _, error) = ledger_of(&db, DID);
    assert_eq!(state, "failed", "{error}");
    assert!(error.contains("private"), "{error}");
}

#[test]
fn an_account_without_a_pds_costs_itself_alone() {
    let db = TestDb::migrated();
    let good = Host::of(&[(DID, repo(DID, &rev(3), "true"))]);
    let directory = directory(&[DID], &good);
    let document = simnet::document("did:plc:nopds", "x.test", &good.url());
    directory.set(
        "plc did:plc:nopds",
        Answer::text(document.replace("#atproto_pds", "#other")),
    );
    let mut run = run_over(&db, &directory, &[]);
    run.args([
        "--did",
        "did:plc:nopds",
        "--did",
        DID,
        "--did",
        "did:plc:nobody",
    ]);
    let output = run.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(texts(&db), ["true"]);
    // Its document was asked for, so it is proved at once.
    assert_eq!(ledger_of(&db, DID).2.as_deref(), Some("signed"));
    let (state, _, _, error) = ledger_of(&db, "did:plc:nopds");
    assert_eq!(state, "failed");
    assert!(error.contains("lacks a PDS"), "{error}");
    assert_eq!(ledger_of(&db, "did:plc:nobody").0, "not found");
    // Once it has one, a retry finds it.
    let car = repo("did:plc:nopds", &rev(3), "late");
    good.server
        .set("did:plc:nopds", Answer::Repo(Arc::new(car)));
    directory.set("plc did:plc:nopds", Answer::text(document));
    run_well(run_over(&db, &directory, &[]).arg("--retry-failed"));
    assert_eq!(texts(&db), ["late", "true"]);
}

/// What a host does not have, but the document says that it has, stays until its list says the
/// same.
#[test]
fn one_word_of_a_host_deletes_nothing() {
    let (db, dir) = (TestDb::migrated(), folder());
    let good = Host::of(&[(DID, repo(DID, &rev(3), "true"))]);
    let directory = directory(&[DID], &good);
    let file = did_file(dir.path(), &good.url(), [DID]);
    run_well(run_over(&db, &directory, &[]).arg(&file));
    good.server.set(DID, Answer::error(400, "RepoNotFound"));
    let output = run_over(&db, &directory, &[]).arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert_eq!(texts(&db), ["true"]);
    assert!(
        ledger_of(&db, DID).3.starts_with("host forgot: "),
        "{:?}",
        ledger_of(&db, DID)
    );
    // Its list says it, too.
    good.lists("");
    run_well(&mut run_over(&db, &directory, &[&good]));
    assert_eq!(texts(&db), Vec::<String>::new());
    assert_eq!(ledger_of(&db, DID).0, "deleted");
    // Or the account itself.
    let db = TestDb::migrated();
    good.serves(&[(DID, repo(DID, &rev(3), "true"))]);
    run_well(run_over(&db, &directory, &[]).arg(&file));
    good.server.set(DID, Answer::error(400, "RepoNotFound"));
    directory.set(
        &format!("plc {DID}"),
        Answer::Status(410, Vec::new(), "{}".to_owned()),
    );
    run_well(run_over(&db, &directory, &[]).arg(&file));
    assert_eq!(texts(&db), Vec::<String>::new());
}
