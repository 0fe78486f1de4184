//! Records for other programs: a reader that applies all messages has the records of the table
//! `record`, whatever happened to the records, to skyfill and to the stream.

use crate::follow::{World, applier};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use testbed::*;

pub(crate) const STREAM: &str = "skyfill-records";

/// A program that applies messages as docs/how-to/records.md says.
#[derive(Default)]
struct Reader {
    /// CID and JSON of each record, by URI.
    records: BTreeMap<String, (String, Value)>,
    /// The rev and the number of the batch that were last seen of each repo.
    repos: BTreeMap<String, (String, i64)>,
    operations: BTreeSet<String>,
    /// Number of the last message.
    last: u64,
    messages: usize,
}

impl Reader {
    /// Applies what is new in the stream.
    fn read(&mut self, server: &Nats) {
        for message in server.messages_after(STREAM, self.last) {
            self.last = message.sequence;
            self.messages += 1;
            self.apply(&message);
        }
    }

    fn apply(&mut self, message: &StreamMessage) {
        let value: Value = serde_json::from_slice(&message.content).unwrap();
        let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_default();
        assert_eq!(
            (&value["version"], &value["type"]),
            (&1.into(), &"commit".into())
        );
        let collection = text(&value["collection"]);
        assert_eq!(message.subject, format!("skyfill.records.{collection}"));
        let (uri, did) = (text(&value["data"]["uri"]), text(&value["did"]));
        assert!(
            uri.starts_with(&format!("at://{did}/{collection}/")),
            "{uri}"
        );
        let (batch, rev) = (value["batch"].as_i64().unwrap(), text(&value["rev"]));
        let seen = self.repos.entry(did).or_default();
        assert!(seen.1 <= batch, "a repo's messages are in order");
        // A repo without a rev is gone; it may come back.
        assert!(rev.is_empty() || seen.0 <= rev, "{} before {rev}", seen.0);
        *seen = (rev, batch);
        let operation = text(&value["operation"]);
        match operation.as_str() {
            "delete" => _ = self.records.remove(&uri),
            _ => {
                let (cid, obj) = (text(&value["data"]["cid"]), value["data"]["obj"].clone());
                assert!(obj.is_object(), "{value}");
                self.records.insert(uri, (cid, obj));
            }
        }
        self.operations.insert(operation);
    }

    fn assert_has(&self, db: &TestDb) {
        let rows = db
            .client()
            .query("SELECT uri, cid, json FROM bsky.record", &[])
            .unwrap();
        let stored: BTreeMap<String, (String, Value)> = rows
            .iter()
            .map(|row| {
                let json = serde_json::from_str(row.get(2)).unwrap();
                (row.get(0), (row.get(1), json))
            })
            .collect();
        for (uri, record) in &stored {
            assert_eq!(self.records.get(uri), Some(record), "{uri}");
        }
        for uri in self.records.keys() {
            assert!(stored.contains_key(uri), "{uri} is gone");
        }
        assert!(stored.len() > 100, "{}", stored.len());
    }
}

pub(crate) fn records(db: &TestDb, server: &Nats) -> Command {
    let mut command = skyfill();
    command.args(["records", "--json", "--transport", &server.url()]);
    command.env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

pub(crate) fn publish(db: &TestDb, server: &Nats) -> String {
    told(&run_well(records(db, server).arg("--until-published")))
}

fn assert_ends_well(publishing: &mut Watched) {
    let code = publishing.wait_for_end();
    assert_eq!(code, Some(0), "{}", publishing.printed());
}

fn unpublished(db: &TestDb) -> i64 {
    let sql = "SELECT count(*) FROM skyfill.unpublished";
    db.client().query_one(sql, &[]).unwrap().get(0)
}

/// Loads the earlier state, and follows half of the accounts to the later one.
pub(crate) fn follow_half(world: &World, db: &TestDb) {
    let mut client = db.client();
    ledger::follow::begin(&mut client, "bsky", "http://relay.test", NOW).unwrap();
    let mut applier = applier(db, &mut client);
    for commits in world.commits.values().step_by(2) {
        for batch in commits.chunks(3) {
            applier.apply(batch, &[]).unwrap();
        }
    }
}

/// Lets the accounts at these places be gone, and loads the present state of all.
pub(crate) fn run_later(world: &World, db: &TestDb, gone: &[usize]) {
    world.serve(&world.later);
    for at in gone {
        let did = &world.net.dids[*at];
        world
            .net
            .server
            .set(did, simnet::Answer::error(400, "RepoNotFound"));
    }
    let dir = folder();
    let dids = world.net.dids.iter().map(String::as_str);
    let file = did_file(dir.path(), &world.net.server.url(), dids);
    let mut command = run_load(&db.url);
    command.args(["--no-verify", "--accept-deletions"]);
    command.args(["--plc-url", &world.net.server.url()]);
    let output = command.arg(file).output().unwrap();
    // 1 says that an account is away.
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{}",
        told(&output)
    );
}

/// Beside a first load, through followed commits, merges and an account that goes and comes back.
#[test]
fn a_reader_has_the_table_after_loads_changes_and_deletions() {
    let world = World::new(2501);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    let mut publishing = Watched::start(&mut records(&db, &server));
    publishing.wait_for("publishing to stream skyfill-records");
    world.serve(&world.earlier);
    world.run(&db);
    wait_until("all notes to be published", || unpublished(&db) == 0);
    signal(&publishing.child, "TERM");
    assert_ends_well(&mut publishing);
    let mut reader = Reader::default();
    reader.read(&server);
    reader.assert_has(&db);
    // A repo costs a row, not a record.
    assert_eq!(Ok(reader.messages), db.count("record").try_into());
    assert_eq!(reader.operations, BTreeSet::from(["create".to_owned()]));
    follow_half(&world, &db);
    let changes = unpublished(&db);
    assert!(changes > 50, "{changes}");
    publish(&db, &server);
    reader.read(&server);
    reader.assert_has(&db);
    assert_eq!(reader.operations.len(), 3, "{:?}", reader.operations);
    run_later(&world, &db, &[1]);
    publish(&db, &server);
    reader.read(&server);
    reader.assert_has(&db);
    run_later(&world, &db, &[]);
    publish(&db, &server);
    reader.read(&server);
    reader.assert_has(&db);
    // Nothing is left, and nothing comes twice.
    let before = reader.last;
    let printed = publish(&db, &server);
    assert!(printed.contains("\"messages\":0"), "{printed}");
    reader.read(&server);
    assert_eq!((reader.last, unpublished(&db)), (before, 0));
}

/// A load that was there before, changes beside the first round, and a kill at every step.
#[test]
fn kills_repeat_a_batch_and_lose_nothing() {
    let world = World::new(2511);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    world.serve(&world.earlier);
    world.run(&db);
    let mut reader = Reader::default();
    let killed = |place: &str| {
        let mut command = records(&db, &server);
        command
            .arg("--until-published")
            .env("SKYFILL_FAILPOINT", place);
        let (code, printed) = Watched::start(&mut command).end();
        assert_eq!(code, None, "{place}: {printed}");
    };
    killed("publishing=1");
    killed("publishing=300");
    killed("published=1");
    follow_half(&world, &db);
    killed("publishing=40");
    killed("published=1");
    reader.read(&server);
    run_later(&world, &db, &[3]);
    killed("publishing=70");
    follow_half(&world, &db);
    killed("published=1");
    publish(&db, &server);
    reader.read(&server);
    reader.assert_has(&db);
    assert_eq!(unpublished(&db), 0);
}

/// A stream that is full makes it wait; whoever reads makes room.
#[test]
fn a_full_stream_slows_it_and_loses_nothing() {
    let world = World::new(2521);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    world.serve(&world.earlier);
    world.run(&db);
    let limit = ["--nats-max-bytes", "131072"];
    let mut stopped = Watched::start(records(&db, &server).args(limit));
    stopped.wait_for("is full");
    signal(&stopped.child, "TERM");
    assert_ends_well(&mut stopped);
    let mut command = records(&db, &server);
    // The limit is known from the stream.
    let mut publishing = Watched::start(command.arg("--until-published"));
    publishing.wait_for("is full");
    // No transaction stays open meanwhile; those that record the events of the process are short.
    wait_until("no transaction to stay open", || {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'";
        let open: i64 = db.client().query_one(open, &[]).unwrap().get(0);
        open == 0
    });
    let mut reader = Reader::default();
    wait_until("the end of the publication", || {
        reader.read(&server);
        // As the guide says: up to the last one, which stays.
        if reader.last > 1 {
            let before = serde_json::json!({ "seq": reader.last }).to_string();
            let purged = server.ask_with(&format!("STREAM.PURGE.{STREAM}"), &before);
            assert_eq!(purged["success"], true, "{purged}");
        }
        publishing.child.try_wait().unwrap().is_some()
    });
    assert_ends_well(&mut publishing);
    reader.read(&server);
    reader.assert_has(&db);
}

/// Gives the records of an account so much JSON that no batch with a small spool can hold them.
fn enlarge(db: &TestDb, did: &str) {
    let sql = format!(
        "UPDATE bsky.record SET json = left(json, -1) || ',\"pad\":\"' || repeat('x', 600000) || '\"}}' WHERE did = {did}"
    );
    let large = db.client().execute(&sql, &[]).unwrap();
    assert!(large * 600_000 > 9 << 20, "{large}");
}

/// The account of a repo that is too large went before, and came back with other records.
#[test]
fn what_went_before_a_repo_that_is_too_large_is_published_too() {
    let world = World::new(2541);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    world.serve(&world.earlier);
    world.run(&db);
    publish(&db, &server);
    let mut reader = Reader::default();
    reader.read(&server);
    run_later(&world, &db, &[1]);
    run_later(&world, &db, &[]);
    let whole = "(SELECT did FROM skyfill.unpublished WHERE key IS NULL)";
    enlarge(&db, whole);
    let mut command = records(&db, &server);
    command.args(["--until-published", "--spool-size", "1MiB"]);
    let printed = told(&run_well(&mut command));
    assert!(printed.contains("its records come in several"), "{printed}");
    reader.read(&server);
    reader.assert_has(&db);
    assert!(reader.operations.contains("delete"));
}

/// A repo whose JSON no batch can hold is published in several, from its note and in the first
/// round.
#[test]
fn a_repo_that_is_too_large_for_a_batch_comes_in_several() {
    let world = World::new(2531);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    publish(&db, &server);
    world.serve(&world.earlier);
    world.run(&db);
    enlarge(
        &db,
        "(SELECT did FROM bsky.record GROUP BY did ORDER BY count(*) DESC LIMIT 1)",
    );
    let mut reader = Reader::default();
    for from in [None, Some("--restart")] {
        let before = reader.messages;
        let mut command = records(&db, &server);
        command.args(["--until-published", "--spool-size", "1MiB"]);
        command.args(from);
        let printed = told(&run_well(&mut command));
        assert!(
            printed.contains("is too large for one batch; its records come in several"),
            "{printed}"
        );
        reader.read(&server);
        reader.assert_has(&db);
        assert_eq!(Ok(reader.messages - before), db.count("record").try_into());
        assert_eq!(unpublished(&db), 0);
    }
}

/// A killed server is waited for.
#[test]
fn a_server_that_is_killed_is_waited_for() {
    let world = World::new(2531);
    let (mut server, db) = (Nats::start(""), TestDb::migrated());
    world.serve(&world.earlier);
    let mut publishing = Watched::start(&mut records(&db, &server));
    publishing.wait_for("publishing to stream");
    server.kill();
    publishing.wait_for("is lost");
    world.run(&db);
    server.start_again();
    wait_until("all notes to be published", || unpublished(&db) == 0);
    signal(&publishing.child, "TERM");
    assert_ends_well(&mut publishing);
    let mut reader = Reader::default();
    reader.read(&server);
    reader.assert_has(&db);
}

/// What is chosen is remembered; another choice or stream needs another beginning.
#[test]
fn collections_are_chosen_once_and_a_publication_ends() {
    let world = World::new(2541);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    world.serve(&world.earlier);
    world.run(&db);
    let chosen = [
        "--until-published",
        "--collections",
        "likes,app.bsky.graph.*",
    ];
    run_well(records(&db, &server).args(chosen));
    let mut reader = Reader::default();
    reader.read(&server);
    let count = |condition: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM bsky.record WHERE {condition}");
        db.client().query_one(&sql, &[]).unwrap().get(0)
    };
    let wanted = count("split_part(uri, '/', 4) ~ '^app\\.bsky\\.(feed\\.like$|graph\\.)'");
    assert_eq!(i64::try_from(reader.records.len()), Ok(wanted));
    assert!(wanted > 20 && wanted < db.count("record"), "{wanted}");
    for (args, wanted) in [
        (vec![], "has begun with app.bsky.feed.like,app.bsky.graph.*"),
        (
            vec!["--nats-stream", "other"],
            "to the stream skyfill-records, not to other-records",
        ),
    ] {
        let output = records(&db, &server).args(&args).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", told(&output));
        let printed = told(&output);
        assert!(
            printed.contains(wanted) && printed.contains("--restart"),
            "{printed}"
        );
    }
    run_well(records(&db, &server).args(["--until-published", "--restart"]));
    reader.read(&server);
    reader.assert_has(&db);
    // Once it has ended, nothing is noted.
    let mut command = skyfill();
    command.args(["records", "--end-publication"]);
    run_well(command.env("BSKY_DB_POSTGRES_URL", &db.url));
    follow_half(&world, &db);
    assert_eq!(unpublished(&db), 0);
}

/// A transaction that was open when the publication began noted nothing: it is waited for.
#[test]
fn transactions_from_before_the_publication_are_waited_for() {
    let world = World::new(2551);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    world.serve(&world.earlier);
    world.run(&db);
    let mut client = db.client();
    let mut open = client.transaction().unwrap();
    let gone =
        "DELETE FROM bsky.record WHERE uri IN (SELECT uri FROM bsky.record ORDER BY uri LIMIT 5)";
    assert_eq!(open.execute(gone, &[]).unwrap(), 5);
    let mut command = records(&db, &server);
    let mut publishing = Watched::start(command.arg("--until-published"));
    publishing.wait_for("waiting for transactions that were open");
    assert_eq!(server.messages(STREAM), 0);
    open.commit().unwrap();
    assert_ends_well(&mut publishing);
    let mut reader = Reader::default();
    reader.read(&server);
    reader.assert_has(&db);
}

/// Creates the durable consumer `reader`.
fn create_consumer(server: &Nats) {
    let consumer = serde_json::json!({
        "stream_name": STREAM,
        "config": { "durable_name": "reader", "ack_policy": "explicit" },
    });
    let created = server.ask_with(
        &format!("CONSUMER.DURABLE.CREATE.{STREAM}.reader"),
        &consumer.to_string(),
    );
    assert!(created.get("error").is_none(), "{created}");
}

/// Messages stay until they are read, and the only consumer is deleted: the stream drops what comes
/// then, so it comes again when there is a consumer.
#[test]
fn nothing_is_lost_while_nobody_reads() {
    let world = World::new(2571);
    let (server, db) = (Nats::start(""), TestDb::migrated());
    world.serve(&world.earlier);
    world.run(&db);
    let mut command = records(&db, &server);
    let mut publishing = Watched::start(command.arg("--nats-until-read"));
    publishing.wait_for("has no consumer yet: waiting until one is created");
    create_consumer(&server);
    let first_round = "SELECT count(*) FROM skyfill.publication WHERE published_to IS NULL";
    wait_until("the first round", || {
        let done: i64 = db.client().query_one(first_round, &[]).unwrap().get(0);
        done == 1 && unpublished(&db) == 0
    });
    let mut reader = Reader::default();
    reader.read(&server);
    reader.assert_has(&db);
    let deleted = server.ask(&format!("CONSUMER.DELETE.{STREAM}.reader"));
    assert_eq!(deleted["success"], true, "{deleted}");
    follow_half(&world, &db);
    publishing.wait_for("has no consumer any more: waiting until one is created");
    let left = unpublished(&db);
    assert!(left > 0, "{left}");
    create_consumer(&server);
    wait_until("all notes to be published", || unpublished(&db) == 0);
    signal(&publishing.child, "TERM");
    assert_ends_well(&mut publishing);
    reader.read(&server);
    reader.assert_has(&db);
}

/// With no other rights than those that the guide lists; messages stay until they are read.
#[test]
fn the_rights_in_the_guide_are_enough_and_messages_go_when_they_are_read() {
    let world = World::new(2561);
    let guide = pages::text_of("docs/how-to/records.md");
    let rights = guide.split("A user needs these subjects").nth(1).unwrap();
    let server = Nats::with_rights(rights);
    let db = TestDb::migrated();
    world.serve(&world.earlier);
    world.run(&db);
    let mut command = skyfill();
    command.args([
        "records",
        "--transport",
        &server.url_of_me(),
        "--until-published",
    ]);
    command.args(["--nats-until-read", "--nats-max-bytes", "1GiB"]);
    let mut publishing = Watched::start(command.env("BSKY_DB_POSTGRES_URL", &db.url));
    publishing.wait_for("waiting until one is created");
    create_consumer(&server);
    assert_ends_well(&mut publishing);
    let mut reader = Reader::default();
    reader.read(&server);
    reader.assert_has(&db);
}
