//! A writer that imitates the official ingester: the statements of its record processor, in its
//! order, each event after the other, beside an upsert of `actor_sync` on another connection
//! (`data-plane/server/indexing/processor.ts`, `plugins/`, `subscription.ts` of version 0.0.280).

use atrepo::{Cid, Codec};
use postgres::{Client, Error, Transaction};
use simnet::{Answer, Server};
use std::collections::BTreeMap;
use std::sync::Arc;
use testbed::TestDb;

/// When it sees events; after all times in records.
const SEEN: &str = "2026-10-31T00:00:00.000Z";
const CREATED: &str = "2025-01-01T00:00:00.000Z";

/// What a record says.
#[derive(Clone)]
enum Says {
    Post(String),
    Like(String),
    Follow(String),
}

impl Says {
    fn bytes(&self) -> Vec<u8> {
        let mut w = atrepo::cbor::Writer::new();
        match self {
            Self::Post(text) => {
                w.map(3).text("text").text(text);
                w.text("$type").text("app.bsky.feed.post");
            }
            Self::Like(uri) => {
                w.map(3).text("$type").text("app.bsky.feed.like");
                w.text("subject").map(2);
                w.text("cid").text(CID).text("uri").text(uri);
            }
            Self::Follow(did) => {
                w.map(3).text("$type").text("app.bsky.graph.follow");
                w.text("subject").text(did);
            }
        }
        w.text("createdAt").text(CREATED);
        w.into_bytes()
    }
}

/// The CID of a post that nobody has.
const CID: &str = "bafyreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

/// An event of the account.
enum Event {
    Create(String, Says),
    Update(String, Says),
    Delete(String),
}

/// The account's repo, as its host has it, and the ingester that follows it.
pub(super) struct Ingester<'i> {
    pub(super) did: &'i str,
    /// Of each record its bytes; the ingester alone changes it.
    pub(super) records: BTreeMap<String, Vec<u8>>,
    host: &'i Server,
    random: simnet::Random,
    micros: u64,
    index: Client,
    sync: Client,
}

impl<'i> Ingester<'i> {
    pub(super) fn new(db: &TestDb, host: &'i Server, did: &'i str, seed: u64) -> Self {
        let mut ingester = Self {
            did,
            records: BTreeMap::new(),
            host,
            random: simnet::Random::new(seed),
            micros: 1_750_000_000_000_000,
            index: db.client(),
            sync: db.client(),
        };
        for client in [&mut ingester.index, &mut ingester.sync] {
            client.batch_execute("SET search_path TO bsky").unwrap();
        }
        for _ in 0..40 {
            let (key, says) = ingester.new_record();
            ingester.records.insert(key, says.bytes());
        }
        ingester.publish();
        ingester
    }

    fn new_record(&mut self) -> (String, Says) {
        // So few that a key that was deleted comes back, and that subjects are duplicates.
        let rkey = atrepo::syntax::tid(1_700_000_000_000_000 + self.random.below(30), 1);
        let subject = self.random.below(8);
        let (collection, says) = match self.random.below(3) {
            0 => {
                let text = format!("text {}", self.random.next_u64());
                ("app.bsky.feed.post", Says::Post(text))
            }
            1 => {
                let uri = format!("at://did:plc:other{subject}/app.bsky.feed.post/3jzfcijpj2z2a");
                ("app.bsky.feed.like", Says::Like(uri))
            }
            _ => {
                let did = format!("did:plc:other{subject}");
                ("app.bsky.graph.follow", Says::Follow(did))
            }
        };
        (format!("{collection}/{rkey}"), says)
    }

    /// The CAR of its present state.
    pub(super) fn car(&self) -> Vec<u8> {
        let records = self.records.clone().into_iter().collect();
        simnet::build_repo(self.did, &self.rev(), records)
    }

    fn rev(&self) -> String {
        atrepo::syntax::tid(self.micros, 1)
    }

    fn publish(&self) {
        self.host.set(self.did, Answer::Repo(Arc::new(self.car())));
    }

    /// The account does something; its host has it, and then the ingester stores it.
    pub(super) fn step(&mut self) {
        let (key, says) = self.new_record();
        let present: Vec<String> = self.records.keys().cloned().collect();
        let some = present[self.random.index(present.len())].clone();
        let event = match self.random.below(4) {
            0 if present.len() > 10 => Event::Delete(some),
            1 if some.starts_with("app.bsky.feed.post/") => {
                let text = format!("newer {}", self.random.next_u64());
                Event::Update(some, Says::Post(text))
            }
            _ if self.records.contains_key(&key) => Event::Delete(key),
            _ => Event::Create(key, says),
        };
        match &event {
            Event::Create(key, says) | Event::Update(key, says) => {
                self.records.insert(key.clone(), says.bytes());
            }
            Event::Delete(key) => _ = self.records.remove(key),
        }
        self.micros += 1_000;
        self.publish();
        self.store(&event);
    }

    /// Both at once, as the official code does.
    fn store(&mut self, event: &Event) {
        let (did, rev) = (self.did, self.rev());
        let (index, sync) = (&mut self.index, &mut self.sync);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let sql = "INSERT INTO actor_sync (did, \"commitCid\", \"repoRev\") VALUES ($1, $2, $3)
                     ON CONFLICT (did) DO UPDATE SET \"commitCid\" = excluded.\"commitCid\", \"repoRev\" = excluded.\"repoRev\"";
                sync.execute(sql, &[&did, &CID, &rev]).unwrap();
            });
            let mut txn = index.transaction().unwrap();
            let indexed = match event {
                Event::Create(key, says) => Record::new(did, key, says).insert(&mut txn),
                Event::Update(key, says) => Record::new(did, key, says).update(&mut txn),
                Event::Delete(key) => delete(&mut txn, &format!("at://{did}/{key}")),
            };
            indexed.unwrap();
            txn.commit().unwrap();
        });
    }

    /// That what is stored of the account is the present state, or not there.
    pub(super) fn assert_nothing_older(&mut self) -> usize {
        let sql = "SELECT uri, cid FROM record WHERE did = $1";
        let rows = self.index.query(sql, &[&self.did]).unwrap();
        for row in &rows {
            let (uri, cid): (&str, &str) = (row.get(0), row.get(1));
            let key = uri.trim_start_matches(&format!("at://{}/", self.did));
            let now = self.records.get(key).map(|bytes| cid_of(bytes));
            assert_eq!(now.as_deref(), Some(cid), "{uri} is older than the account");
        }
        rows.len()
    }
}

fn cid_of(bytes: &[u8]) -> String {
    Cid::of(Codec::DagCbor, bytes).to_string()
}

/// A record that is indexed.
struct Record<'r> {
    uri: String,
    cid: String,
    did: &'r str,
    says: &'r Says,
}

impl<'r> Record<'r> {
    fn new(did: &'r str, key: &str, says: &'r Says) -> Self {
        Self {
            uri: format!("at://{did}/{key}"),
            cid: cid_of(&says.bytes()),
            did,
            says,
        }
    }

    fn json(&self) -> String {
        match self.says {
            Says::Post(text) => {
                format!(
                    r#"{{"text":"{text}","$type":"app.bsky.feed.post","createdAt":"{CREATED}"}}"#
                )
            }
            Says::Like(uri) => format!(
                r#"{{"$type":"app.bsky.feed.like","subject":{{"cid":"{CID}","uri":"{uri}"}},"createdAt":"{CREATED}"}}"#
            ),
            Says::Follow(did) => format!(
                r#"{{"$type":"app.bsky.graph.follow","subject":"{did}","createdAt":"{CREATED}"}}"#
            ),
        }
    }

    fn insert(&self, txn: &mut Transaction<'_>) -> Result<(), Error> {
        txn.execute(
            "INSERT INTO record (uri, cid, did, json, \"indexedAt\") VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            &[&self.uri, &self.cid, &self.did, &self.json(), &SEEN],
        )?;
        if self.insert_own(txn)? {
            return self.notify(txn);
        }
        if let Some(of) = self.duplicate_of(txn)? {
            txn.execute(
                "INSERT INTO duplicate_record (uri, cid, \"duplicateOf\", \"indexedAt\") VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                &[&self.uri, &self.cid, &of, &SEEN],
            )?;
        }
        Ok(())
    }

    /// `insertFn` of the collection; whether a row was inserted.
    fn insert_own(&self, txn: &mut Transaction<'_>) -> Result<bool, Error> {
        let inserted = match self.says {
            Says::Post(text) => {
                txn.execute(
                    "INSERT INTO feed_item (type, uri, cid, \"postUri\", \"originatorDid\", \"sortAt\") VALUES ('post', $1, $2, $1, $3, $4) ON CONFLICT DO NOTHING",
                    &[&self.uri, &self.cid, &self.did, &CREATED],
                )?;
                txn.execute(
                    "INSERT INTO post (uri, cid, creator, text, \"createdAt\", \"indexedAt\") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                    &[&self.uri, &self.cid, &self.did, text, &CREATED, &SEEN],
                )?
            }
            Says::Like(subject) => txn.execute(
                "INSERT INTO \"like\" (uri, cid, creator, subject, \"subjectCid\", \"createdAt\", \"indexedAt\") VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                &[&self.uri, &self.cid, &self.did, subject, &CID, &CREATED, &SEEN],
            )?,
            Says::Follow(subject) => txn.execute(
                "INSERT INTO follow (uri, cid, creator, \"subjectDid\", \"createdAt\", \"indexedAt\") VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                &[&self.uri, &self.cid, &self.did, subject, &CREATED, &SEEN],
            )?,
        };
        Ok(inserted > 0)
    }

    fn duplicate_of(&self, txn: &mut Transaction<'_>) -> Result<Option<String>, Error> {
        let (sql, subject) = match self.says {
            Says::Post(_) => return Ok(None),
            Says::Like(subject) => (
                "SELECT uri FROM \"like\" WHERE creator = $1 AND subject = $2",
                subject,
            ),
            Says::Follow(subject) => (
                "SELECT uri FROM follow WHERE creator = $1 AND \"subjectDid\" = $2",
                subject,
            ),
        };
        let found: Option<String> = txn
            .query_opt(sql, &[&self.did, subject])?
            .map(|row| row.get(0));
        Ok(found.filter(|uri| *uri != self.uri))
    }

    fn notify(&self, txn: &mut Transaction<'_>) -> Result<(), Error> {
        let (to, reason, subject) = match self.says {
            Says::Post(_) => return Ok(()),
            Says::Like(uri) => (uri.split('/').nth(2).unwrap(), "like", Some(uri.as_str())),
            Says::Follow(did) => (did.as_str(), "follow", None),
        };
        txn.execute(
            "INSERT INTO notification (did, author, \"recordUri\", \"recordCid\", reason, \"reasonSubject\", \"sortAt\") VALUES ($1, $2, $3, $4, $5, $6, $7)",
            &[&to, &self.did, &self.uri, &self.cid, &reason, &subject, &CREATED],
        )?;
        Ok(())
    }

    /// `updateRecord`; only posts are updated here.
    fn update(&self, txn: &mut Transaction<'_>) -> Result<(), Error> {
        txn.execute(
            "UPDATE record SET cid = $2, json = $3, \"indexedAt\" = $4 WHERE uri = $1",
            &[&self.uri, &self.cid, &self.json(), &SEEN],
        )?;
        txn.execute("DELETE FROM duplicate_record WHERE uri = $1", &[&self.uri])?;
        if !delete_own(txn, &self.uri)? {
            return self.insert(txn);
        }
        assert!(self.insert_own(txn)?, "{} could not be replaced", self.uri);
        Ok(())
    }
}

/// `deleteFn` of the collection; whether a row was deleted.
fn delete_own(txn: &mut Transaction<'_>, uri: &str) -> Result<bool, Error> {
    let table = match uri.split('/').nth(3).unwrap() {
        "app.bsky.feed.post" => {
            txn.execute("DELETE FROM feed_item WHERE \"postUri\" = $1", &[&uri])?;
            "post"
        }
        "app.bsky.feed.like" => "like",
        _ => "follow",
    };
    let sql = format!("DELETE FROM \"{table}\" WHERE uri = $1");
    Ok(txn.execute(&sql, &[&uri])? > 0)
}

/// `deleteRecord`: a duplicate takes the place of what is deleted.
fn delete(txn: &mut Transaction<'_>, uri: &str) -> Result<(), Error> {
    txn.execute("DELETE FROM record WHERE uri = $1", &[&uri])?;
    txn.execute("DELETE FROM duplicate_record WHERE uri = $1", &[&uri])?;
    if !delete_own(txn, uri)? {
        return Ok(());
    }
    txn.execute("DELETE FROM notification WHERE \"recordUri\" = $1", &[&uri])?;
    let next = txn.query_opt(
        "SELECT r.uri, r.cid, r.did, r.json::jsonb #>> '{subject,uri}', r.json::jsonb ->> 'subject'
         FROM duplicate_record d JOIN record r ON r.uri = d.uri WHERE d.\"duplicateOf\" = $1 ORDER BY d.\"indexedAt\" LIMIT 1",
        &[&uri],
    )?;
    let Some(row) = next else { return Ok(()) };
    let says = match row.get::<_, Option<String>>(3) {
        Some(uri) => Says::Like(uri),
        None => Says::Follow(row.get(4)),
    };
    let next = Record {
        uri: row.get(0),
        cid: row.get(1),
        did: row.get(2),
        says: &says,
    };
    match next.insert_own(txn)? {
        true => next.notify(txn),
        false => Ok(()),
    }
}
