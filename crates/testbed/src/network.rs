//! Repos on a loopback PDS, with documents and handles, and repos some time later.

use crate::TestDb;
use crate::command::{NOW, did_file, producer, skyfill, summary, told};
use crate::process::Consumer;
use simnet::Answer;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};

/// Repos served by a PDS on loopback, which is PLC and the host of all handles, too.
pub struct Net {
    /// What answers.
    pub server: simnet::Server,
    /// The accounts, sorted.
    pub dids: Vec<String>,
}

impl Net {
    /// Serves repos, given as DID and CAR.
    #[must_use]
    pub fn of_cars(cars: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let server = simnet::Server::start(HashMap::new());
        let mut dids = Vec::new();
        for (did, car) in cars {
            server.set(&did, Answer::Repo(Arc::new(car)));
            dids.push(did);
        }
        dids.sort();
        Self { server, dids }
    }

    /// Serves a tangle, with its documents and handles.
    #[must_use]
    pub fn of_tangle(tangle: &simnet::Tangle) -> Self {
        let net = Self::of_cars(tangle.dids().map(|did| (did.to_owned(), tangle.car(did))));
        for did in tangle.dids() {
            net.set_document(did, &tangle.document(did, &net.server.url()));
            let handle = tangle.handle(did).to_ascii_lowercase();
            if let Some(led) = tangle.leads_to(&handle) {
                net.set_handle(&handle, led);
            }
        }
        net
    }

    /// Serves an account's DID document.
    pub fn set_document(&self, did: &str, document: &str) {
        let asked = match did.strip_prefix("did:web:") {
            Some(host) => format!("web {}", host.replace("%3A", ":").to_lowercase()),
            None => format!("plc {did}"),
        };
        self.server.set(&asked, Answer::text(document));
    }

    /// Lets a handle lead to an account.
    pub fn set_handle(&self, handle: &str, did: &str) {
        let asked = format!("handle {}", handle.to_lowercase());
        self.server.set(&asked, Answer::text(format!("{did}\n")));
    }

    /// Loads the repos of `dids` into `db` in this order over so many sockets, with these arguments
    /// for the consumers.
    pub fn load(
        &self,
        db: &TestDb,
        dir: &Path,
        dids: &[String],
        sockets: usize,
        consumer_args: &[&str],
    ) {
        let file = did_file(dir, &self.server.url(), dids.iter().map(String::as_str));
        let consumers: Vec<Consumer> = (0..sockets)
            .map(|n| Consumer::start(&db.url, dir, &format!("s{n}"), consumer_args))
            .collect();
        let paths: Vec<&Path> = consumers.iter().map(|c| c.socket.as_path()).collect();
        let output = producer(dir, &file, &paths)
            .output()
            .expect("run the producer");
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
        assert_eq!(summary(&output)["sent"], dids.len(), "{}", told(&output));
        for consumer in consumers {
            let log = consumer.log();
            let code = consumer.stop();
            assert!(matches!(code, Some(0 | 1)), "{code:?} {log}");
        }
    }

    /// `skyfill identities` with everything that it asks pointed here. DNS knows nothing.
    #[must_use]
    pub fn identities(&self, db: &TestDb) -> Command {
        self.identities_with(db, dns())
    }

    /// The same with this DNS server.
    #[must_use]
    pub fn identities_with(&self, db: &TestDb, dns: &simnet::Dns) -> Command {
        let url = self.server.url();
        let mut command = skyfill();
        command.args(["identities", "--json", "--now", NOW]);
        command.args(["--timeout", "2", "--plc-rate", "1000"]);
        for server in ["--plc-url", "--well-known-server", "--did-web-server"] {
            command.args([server, &url]);
        }
        command.args(["--dns-server", &dns.address().to_string()]);
        command.env("BSKY_DB_POSTGRES_URL", &db.url);
        command
    }
}

/// A DNS server that knows nothing, and says so at once.
pub fn dns() -> &'static simnet::Dns {
    static DNS: OnceLock<simnet::Dns> = OnceLock::new();
    DNS.get_or_init(|| simnet::Dns::start(HashMap::new()))
}

/// Keys and DAG-CBOR of the records in a CAR.
#[must_use]
pub fn records_of(car: &[u8], did: &str) -> Vec<(String, Vec<u8>)> {
    let repo = atrepo::Repo::open(car, did).expect("a repo");
    let mut records = Vec::new();
    repo.entries(|entry| -> Result<(), atrepo::RepoError> {
        if let atrepo::Entry::Record {
            collection,
            rkey,
            bytes,
            ..
        } = entry
        {
            records.push((format!("{collection}/{rkey}"), bytes.to_vec()));
        }
        Ok(())
    })
    .expect("entries");
    records
}

/// A repo some time later: records are gone, changed and new, some of them duplicates of others.
pub fn later(car: &[u8], did: &str, random: &mut simnet::Random) -> Vec<u8> {
    let before = records_of(car, did);
    let mut after: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (number, (key, bytes)) in before.iter().enumerate() {
        let collection = key.split('/').next().expect("a collection");
        let same: Vec<&Vec<u8>> = before
            .iter()
            .filter(|(other, _)| other.split('/').next() == Some(collection))
            .map(|(_, bytes)| bytes)
            .collect();
        let other = same[random.index(same.len())].clone();
        match random.below(10) {
            0 | 1 => {}
            2 => _ = after.insert(key.clone(), other),
            3 => {
                after.insert(key.clone(), bytes.clone());
                let micros =
                    1_600_000_000_000_000 + random.below(200_000_000_000_000) + number as u64;
                let rkey = atrepo::syntax::tid(micros, 3);
                after.insert(format!("{collection}/{rkey}"), other);
            }
            _ => _ = after.insert(key.clone(), bytes.clone()),
        }
    }
    let repo = atrepo::Repo::open(car, did).expect("a repo");
    let micros = atrepo::syntax::tid_micros(&repo.commit().rev).expect("a TID");
    let rev = atrepo::syntax::tid(micros + 1_000_000 + random.below(1_000_000), 1);
    simnet::build_repo(did, &rev, after.into_iter().collect())
}
