//! A small network in which everything is in each other's way: few accounts, few posts, and records
//! that reply, quote, gate, like and list each other and themselves, right and wrong. Where
//! [`crate::Population`] is like the real network, this one looks for rules that meet.
//!
//! Made to be judged by the official indexer. Its replies point to posts that come before them by
//! record key, so that the canonical order is that of the keys; replies in a circle have tests of
//! their own.

use crate::document::document;
use crate::random::Random;
use crate::repo::build_repo;
use atrepo::{Cid, Codec, syntax};
use rows::datetime;
use std::collections::BTreeMap;

mod value;

use value::{Value, encoded, of_type, strong_ref, text};

/// The network.
#[derive(Clone, Debug)]
pub struct Tangle {
    /// By DID, the records: key and DAG-CBOR.
    repos: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// When its commits were made, in microseconds since 1970.
    committed: u64,
}

/// A post that others may point to.
#[derive(Clone)]
struct Post {
    did: String,
    uri: String,
    cid: String,
    /// The root of its thread, as it says.
    root: Option<(String, String)>,
}

const BEGINNING: u64 = 1_700_000_000_000_000;
/// From then to the commits, in microseconds: nobody believes one in the future.
const AGE: u64 = 60_000_000_000_000;

/// Makes records that get in each other's way.
pub(crate) struct Maker {
    random: Random,
    dids: Vec<String>,
    posts: Vec<Post>,
    lists: Vec<String>,
    /// Records that are no posts, to be replied to and quoted.
    others: Vec<(String, String)>,
    clock: u64,
    /// Whether to add what [`Tangle::knotted`] has.
    is_knotted: bool,
    repos: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

impl Tangle {
    /// `accounts` accounts with about `records` records in all.
    #[must_use]
    pub fn new(seed: u64, accounts: usize, records: usize) -> Self {
        Self::make(seed, accounts, records, false)
    }

    /// The same with more in it: records of which JSON does not keep all, many duplicates, some of
    /// them such records, and posts that reply to each other in circles.
    #[must_use]
    pub fn knotted(seed: u64, accounts: usize, records: usize) -> Self {
        Self::make(seed, accounts, records, true)
    }

    fn make(seed: u64, accounts: usize, records: usize, is_knotted: bool) -> Self {
        let mut random = Random::new(seed ^ 0x7461_6e67_6c65);
        let dids: Vec<String> = (0..accounts)
            .map(|_| {
                const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
                let id: String = (0..24)
                    .map(|_| char::from(DIGITS[random.index(32)]))
                    .collect();
                format!("did:plc:{id}")
            })
            .collect();
        let mut maker = Maker::new(random, dids, is_knotted);
        for _ in 0..records {
            maker.one();
        }
        Self {
            repos: maker.repos,
            committed: BEGINNING + AGE,
        }
    }

    /// The same network a day before: of each repo, some records were not there, some had the
    /// content of another one, and some were deleted since.
    #[must_use]
    pub fn earlier(&self, seed: u64) -> Self {
        const DAY: u64 = 86_400_000_000;
        let mut random = Random::new(seed);
        let repos = self.repos.iter().map(|(did, records)| {
            let mut earlier = records.clone();
            let keys: Vec<&String> = records.keys().collect();
            for (at, key) in keys.iter().enumerate() {
                let collection = key.split_once('/').map_or("", |(collection, _)| collection);
                let other = keys[random.index(keys.len())];
                let is_alike = other
                    .split_once('/')
                    .is_some_and(|(name, _)| name == collection);
                match random.below(20) {
                    0 | 1 => drop(earlier.remove(*key)),
                    2 | 3 if is_alike => {
                        earlier.insert((*key).clone(), records[other].clone());
                    }
                    4 => {
                        let rkey = syntax::tid(BEGINNING + at as u64, 31);
                        earlier.insert(format!("{collection}/{rkey}"), records[*key].clone());
                    }
                    _ => {}
                }
            }
            (did.clone(), earlier)
        });
        Self {
            repos: repos.collect(),
            committed: self.committed - DAY,
        }
    }

    /// The accounts.
    pub fn dids(&self) -> impl Iterator<Item = &str> {
        self.repos.keys().map(String::as_str)
    }

    /// The CAR of an account.
    ///
    /// # Panics
    /// There is no such account.
    #[must_use]
    pub fn car(&self, did: &str) -> Vec<u8> {
        let records = self.repos[did]
            .iter()
            .map(|(key, bytes)| (key.clone(), bytes.clone()));
        build_repo(did, &syntax::tid(self.committed, 7), records.collect())
    }

    /// The handle that an account claims; every seventh claims that of the account before.
    #[must_use]
    pub fn handle(&self, did: &str) -> String {
        let at = self.dids().position(|other| other == did).unwrap_or(0);
        let at = if at % 7 == 3 { at - 1 } else { at };
        let name = if at % 5 == 1 { "User" } else { "user" };
        format!("{name}{at}.tangle.test")
    }

    /// Whom a handle in lower case leads to: the first account that claims it. Every eleventh
    /// account's leads nowhere.
    #[must_use]
    pub fn leads_to(&self, handle: &str) -> Option<&str> {
        let (at, did) = self
            .dids()
            .enumerate()
            .find(|(_, did)| self.handle(did).to_ascii_lowercase() == handle)?;
        (at % 11 != 9).then_some(did)
    }

    /// The DID document of an account, of whose repo `pds` is the host.
    #[must_use]
    pub fn document(&self, did: &str, pds: &str) -> String {
        document(did, &self.handle(did), pds)
    }
}

/// Posts, lists and other records that are pointed to, at most: the last ones.
const REMEMBERED: usize = 4000;

impl Maker {
    pub(crate) fn new(random: Random, dids: Vec<String>, is_knotted: bool) -> Self {
        Self {
            random,
            posts: Vec::new(),
            lists: Vec::new(),
            others: Vec::new(),
            clock: BEGINNING,
            is_knotted,
            repos: dids
                .iter()
                .map(|did| (did.clone(), BTreeMap::new()))
                .collect(),
            dids,
        }
    }

    /// Another account, to be pointed to.
    pub(crate) fn add_did(&mut self, did: &str) {
        self.dids.push(did.to_owned());
    }

    /// A post that somebody else made, to be pointed to.
    pub(crate) fn add_post(&mut self, did: &str, rkey: &str, record: &[u8]) {
        self.posts.push(Post {
            did: did.to_owned(),
            uri: format!("at://{did}/app.bsky.feed.post/{rkey}"),
            cid: Cid::of(Codec::DagCbor, record).to_string(),
            root: None,
        });
    }

    /// Records of `did` that are made at this time: one, or none if somebody else would make it.
    pub(crate) fn made_by(&mut self, did: &str, micros: u64) -> BTreeMap<String, Vec<u8>> {
        self.clock = micros;
        self.repos.clear();
        if self.posts.len() > REMEMBERED * 2 {
            self.posts.drain(..REMEMBERED);
        }
        if self.others.len() > REMEMBERED * 2 {
            self.others.drain(..REMEMBERED);
        }
        self.one_of(did);
        self.repos.remove(did).unwrap_or_default()
    }

    fn did(&mut self) -> String {
        self.dids[self.random.index(self.dids.len())].clone()
    }

    /// A post to point to; most often one of the last.
    fn post(&mut self) -> Option<Post> {
        let recent = if self.random.percent(70) {
            25
        } else {
            self.posts.len()
        };
        let from = self.posts.len().saturating_sub(recent);
        let at = from + self.random.index(self.posts.len() - from);
        self.posts.get(at).cloned()
    }

    /// A URI and a CID to point to: most often a post, now and then something else.
    fn target(&mut self) -> (String, String) {
        let cid = Cid::of(Codec::DagCbor, &self.random.next_u64().to_be_bytes()).to_string();
        let did = self.did();
        match (self.random.below(20), self.post()) {
            (0, _) => (format!("at://{did}"), cid),
            (1, _) => (format!("at://{did}/app.bsky.feed.post/3jzfcijpj2z2a"), cid),
            (2, _) if !self.others.is_empty() => {
                self.others[self.random.index(self.others.len())].clone()
            }
            (3, Some(post)) => (format!("{}#/text", post.uri), post.cid),
            (4, Some(post)) => (post.uri, cid),
            (5, _) => (format!("at://{did}/app.bsky.feed.generator/feed"), cid),
            (6, _) if self.random.percent(30) => (
                "at://did:web:a_b.example.com/app.bsky.feed.post/self".to_owned(),
                cid,
            ),
            (_, Some(post)) => (post.uri, post.cid),
            (_, None) => (format!("at://{did}/app.bsky.feed.post/self"), cid),
        }
    }

    /// When a record says it was made: mostly what its key says.
    fn created_at(&mut self) -> Value {
        let micros = self.clock;
        let iso = datetime::print(i64::try_from(micros / 1000).unwrap_or(0));
        text(match self.random.below(16) {
            0 => format!("{}+02:30", iso.trim_end_matches('Z')),
            1 => format!("{}.0123456789Z", &iso[..19]),
            2 => "1970-01-01T00:00:00.000Z".to_owned(),
            3 => "2031-02-30T11:22:33Z".to_owned(),
            4 => "yesterday".to_owned(),
            _ => iso,
        })
    }

    fn blob(&mut self) -> Value {
        let cid = Cid::of(Codec::Raw, &self.random.next_u64().to_be_bytes());
        let size = if self.random.percent(5) {
            3_000_000
        } else {
            1000
        };
        of_type(
            "blob",
            vec![
                ("ref", Value::Link(cid)),
                ("mimeType", text("image/png")),
                ("size", Value::Number(size)),
            ],
        )
    }

    fn one(&mut self) {
        self.clock += 1 + self.random.below(90_000_000);
        let did = self.did();
        if self.is_knotted && self.random.percent(4) {
            return self.circle();
        }
        self.one_of(&did);
    }

    fn one_of(&mut self, did: &str) {
        match self.random.below(100) {
            0..45 => self.make_post(did),
            45..55 => self.gate(did),
            55..67 => self.subject(did, "app.bsky.feed.like"),
            67..75 => self.subject(did, "app.bsky.feed.repost"),
            75..84 => self.account_record(did),
            84..92 => self.list_record(did),
            _ => self.rest(did),
        }
    }

    fn put(
        &mut self,
        did: &str,
        collection: &str,
        rkey: &str,
        mut fields: Vec<(&'static str, Value)>,
    ) -> (String, String) {
        if self.random.percent(97) {
            fields.push(("$type", text(collection)));
        }
        if self.is_knotted {
            self.knot(did, collection, rkey, &mut fields);
        }
        let bytes = encoded(fields);
        let cid = Cid::of(Codec::DagCbor, &bytes).to_string();
        let repo = self.repos.entry(did.to_owned()).or_default();
        repo.insert(format!("{collection}/{rkey}"), bytes);
        (format!("at://{did}/{collection}/{rkey}"), cid)
    }

    /// Adds what JSON does not keep to one record in four, and a duplicate to one in five.
    fn knot(
        &mut self,
        did: &str,
        collection: &str,
        rkey: &str,
        fields: &mut Vec<(&'static str, Value)>,
    ) {
        if self.random.percent(20) && rkey.len() == 13 && !collection.ends_with("gate") {
            let again = syntax::tid(
                self.clock - self.random.below(1000),
                8 + self.random.below(4),
            );
            let mut copy = fields.clone();
            self.add_odd_field(&mut copy);
            let repo = self.repos.entry(did.to_owned()).or_default();
            repo.insert(format!("{collection}/{again}"), encoded(copy));
        }
        self.add_odd_field(fields);
    }

    fn add_odd_field(&mut self, fields: &mut Vec<(&'static str, Value)>) {
        let link = Cid::of(Codec::Raw, &self.random.next_u64().to_be_bytes()).to_string();
        let odd = match self.random.below(20) {
            0 => Value::Float(3.0),
            1 => Value::Map(vec![(
                "__proto__",
                Value::Map(vec![("a", Value::Number(1))]),
            )]),
            2 => Value::Map(vec![("$link", text(link))]),
            3 => Value::Map(vec![("$bytes", text("AQ=="))]),
            4 => text("\u{feff}\u{feff}two marks"),
            _ => return,
        };
        fields.push(("odd", odd));
    }

    /// Two to four posts of which each replies to the next, and the last to the first.
    fn circle(&mut self) {
        let cid = Cid::of(Codec::DagCbor, &self.random.next_u64().to_be_bytes()).to_string();
        let members: Vec<(String, String)> = (0..2 + self.random.below(3))
            .map(|_| {
                self.clock += 1 + self.random.below(1_000_000);
                (self.did(), self.tid())
            })
            .collect();
        let uri = |at: usize| {
            let (did, rkey) = &members[at % members.len()];
            format!("at://{did}/app.bsky.feed.post/{rkey}")
        };
        let root = match self.post() {
            Some(post) if self.random.percent(50) => post.uri,
            _ => uri(0),
        };
        for (at, (did, rkey)) in members.iter().enumerate() {
            let reply = vec![
                ("root", strong_ref(&root, &cid)),
                ("parent", strong_ref(&uri(at + 1), &cid)),
            ];
            let fields = vec![
                ("text", text("round and round")),
                ("createdAt", self.created_at()),
                ("reply", Value::Map(reply)),
            ];
            let (uri, cid) = self.put(did, "app.bsky.feed.post", rkey, fields);
            let (did, root) = (did.clone(), Some((root.clone(), cid.clone())));
            self.posts.push(Post {
                did,
                uri,
                cid,
                root,
            });
        }
    }

    fn tid(&mut self) -> String {
        syntax::tid(self.clock, self.random.below(4))
    }

    fn make_post(&mut self, did: &str) {
        let body = match self.random.below(12) {
            0 => "\u{feff}begins with a mark".to_owned(),
            1 => "nul \u{0} in it".to_owned(),
            2 => "👩‍👩‍👧‍👦".repeat(20 + self.random.index(12)),
            n => format!("post {n} about birds"),
        };
        let mut fields = vec![("text", text(body)), ("createdAt", self.created_at())];
        let mut root = None;
        if let (true, Some(parent)) = (self.random.percent(65), self.post()) {
            let thread = parent
                .root
                .clone()
                .unwrap_or((parent.uri.clone(), parent.cid.clone()));
            let parent = match self.random.below(16) {
                0 => self.target(),
                1 => thread.clone(),
                _ => (parent.uri, parent.cid),
            };
            let thread = if self.random.percent(8) {
                self.target()
            } else {
                thread
            };
            let reply = vec![
                ("root", strong_ref(&thread.0, &thread.1)),
                ("parent", strong_ref(&parent.0, &parent.1)),
            ];
            fields.push(("reply", Value::Map(reply)));
            root = Some(thread);
        }
        if self.random.percent(45) {
            let embed = self.embed();
            fields.push(("embed", embed));
        }
        if self.random.percent(25) {
            let features = (0..=self.random.below(3))
                .map(|_| {
                    of_type(
                        "app.bsky.richtext.facet#mention",
                        vec![("did", text(self.did()))],
                    )
                })
                .collect();
            let index = Value::Map(vec![
                ("byteStart", Value::Number(0)),
                ("byteEnd", Value::Number(3)),
            ]);
            let facet = Value::Map(vec![("index", index), ("features", Value::List(features))]);
            fields.push(("facets", Value::List(vec![facet])));
        }
        if self.random.percent(20) {
            let langs = if self.random.percent(10) {
                "deutsch"
            } else {
                "de"
            };
            fields.push(("langs", Value::List(vec![text(langs)])));
            fields.push(("tags", Value::List(Vec::new())));
        }
        let rkey = self.tid();
        let (uri, cid) = self.put(did, "app.bsky.feed.post", &rkey, fields);
        let did = did.to_owned();
        self.posts.push(Post {
            did,
            uri,
            cid,
            root,
        });
    }

    fn embed(&mut self) -> Value {
        let (uri, cid) = self.target();
        let record = |uri: &str, cid: &str| {
            of_type(
                "app.bsky.embed.record",
                vec![("record", strong_ref(uri, cid))],
            )
        };
        match self.random.below(10) {
            0..4 => record(&uri, &cid),
            4 | 5 => {
                let image = Value::Map(vec![("image", self.blob()), ("alt", text("a bird"))]);
                let count = self.random.index(6);
                of_type(
                    "app.bsky.embed.images",
                    vec![("images", Value::List(vec![image; count]))],
                )
            }
            6 => {
                let card = vec![
                    ("uri", text("https://example.com")),
                    ("title", text("t")),
                    ("description", text("d")),
                ];
                of_type(
                    "app.bsky.embed.external",
                    vec![("external", Value::Map(card))],
                )
            }
            n => {
                let (other, other_cid) = self.target();
                let media = match n {
                    7 => record(&other, &other_cid),
                    8 => of_type("app.bsky.embed.unknown", Vec::new()),
                    _ => {
                        let image = Value::Map(vec![("image", self.blob()), ("alt", text(""))]);
                        of_type(
                            "app.bsky.embed.images",
                            vec![("images", Value::List(vec![image]))],
                        )
                    }
                };
                let record = Value::Map(vec![("record", strong_ref(&uri, &cid))]);
                of_type(
                    "app.bsky.embed.recordWithMedia",
                    vec![("record", record), ("media", media)],
                )
            }
        }
    }

    /// A thread gate or post gate of a post of its own, or of none.
    fn gate(&mut self, did: &str) {
        let own: Vec<String> = self
            .posts
            .iter()
            .filter(|post| post.did == did)
            .map(|post| post.uri.clone())
            .collect();
        let missing = format!("at://{did}/app.bsky.feed.post/3jzfcijpj2z2a");
        let post = if own.is_empty() || self.random.percent(10) {
            missing
        } else {
            own[self.random.index(own.len())].clone()
        };
        let rkey = match self.random.below(15) {
            0 => self.tid(),
            _ => post.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        let named = if self.random.percent(6) {
            post.replace("feed.post", "feed.generator")
        } else {
            post
        };
        let mut fields = vec![("post", text(named)), ("createdAt", self.created_at())];
        if self.random.percent(35) {
            let rules = if self.random.percent(75) {
                vec![of_type("app.bsky.feed.postgate#disableRule", Vec::new())]
            } else {
                Vec::new()
            };
            fields.push(("embeddingRules", Value::List(rules)));
            self.put(did, "app.bsky.feed.postgate", &rkey, fields);
            return;
        }
        if self.random.percent(80) {
            let rules = (0..self.random.below(4)).map(|_| self.rule()).collect();
            fields.push(("allow", Value::List(rules)));
        }
        if self.random.percent(50) {
            let hidden = (0..3)
                .filter_map(|_| self.post())
                .map(|post| text(post.uri))
                .collect();
            fields.push(("hiddenReplies", Value::List(hidden)));
        }
        self.put(did, "app.bsky.feed.threadgate", &rkey, fields);
    }

    fn rule(&mut self) -> Value {
        let did = self.did();
        let missing = format!("at://{did}/app.bsky.graph.list/none");
        let list = self
            .lists
            .get(self.random.index(self.lists.len()))
            .cloned()
            .unwrap_or(missing);
        match self.random.below(5) {
            0 => of_type("app.bsky.feed.threadgate#mentionRule", Vec::new()),
            1 => of_type("app.bsky.feed.threadgate#followerRule", Vec::new()),
            2 => of_type("app.bsky.feed.threadgate#followingRule", Vec::new()),
            3 => of_type(
                "app.bsky.feed.threadgate#listRule",
                vec![("list", text(list))],
            ),
            _ => of_type("app.bsky.feed.threadgate#otherRule", Vec::new()),
        }
    }

    fn subject(&mut self, did: &str, collection: &str) {
        let (uri, cid) = self.target();
        let mut fields = vec![
            ("subject", strong_ref(&uri, &cid)),
            ("createdAt", self.created_at()),
        ];
        if self.random.percent(25) {
            let (uri, cid) = self.target();
            fields.push(("via", strong_ref(&uri, &cid)));
        }
        let rkey = self.tid();
        let made = self.put(did, collection, &rkey, fields);
        self.others.push(made);
    }

    fn account_record(&mut self, did: &str) {
        let subject = if self.random.percent(3) {
            "alice.example".to_owned()
        } else {
            self.did()
        };
        let mut fields = vec![("subject", text(subject)), ("createdAt", self.created_at())];
        let collection = match self.random.below(6) {
            0 => "app.bsky.graph.block",
            1 => {
                fields.extend([
                    ("handle", text("alice.test")),
                    ("displayName", text("Alice")),
                ]);
                "app.bsky.graph.verification"
            }
            _ => "app.bsky.graph.follow",
        };
        let rkey = self.tid();
        self.put(did, collection, &rkey, fields);
    }

    fn list_record(&mut self, did: &str) {
        let rkey = self.tid();
        let created_at = self.created_at();
        let list = if self.lists.is_empty() {
            format!("at://{did}/app.bsky.graph.list/none")
        } else {
            self.lists[self.random.index(self.lists.len())].clone()
        };
        match self.random.below(10) {
            0 => {
                let purpose = text("app.bsky.graph.defs#curatelist");
                let fields = vec![
                    ("purpose", purpose),
                    ("name", text("a list")),
                    ("createdAt", created_at),
                ];
                let made = self.put(did, "app.bsky.graph.list", &rkey, fields);
                self.lists.push(made.0.clone());
                self.others.push(made);
            }
            1 => {
                _ = self.put(
                    did,
                    "app.bsky.graph.listblock",
                    &rkey,
                    vec![("subject", text(list)), ("createdAt", created_at)],
                );
            }
            2 => {
                let fields = vec![("subject", text(list)), ("createdAt", created_at)];
                self.put(did, "app.bsky.graph.referencelistoptout", &rkey, fields);
            }
            _ => {
                // Mostly on lists of one's own.
                let owner = list.split('/').nth(2).unwrap_or(did).to_owned();
                let did = if self.random.percent(90) {
                    owner
                } else {
                    did.to_owned()
                };
                let subject = text(self.did());
                let fields = vec![
                    ("subject", subject),
                    ("list", text(list)),
                    ("createdAt", created_at),
                ];
                self.put(&did, "app.bsky.graph.listitem", &rkey, fields);
            }
        }
    }

    fn rest(&mut self, did: &str) {
        let (created_at, rkey) = (self.created_at(), self.tid());
        match self.random.below(7) {
            0 => {
                let mut fields = vec![
                    ("displayName", text("Somebody")),
                    ("createdAt", created_at),
                    ("avatar", self.blob()),
                ];
                let (uri, cid) = self.target();
                fields.push(("joinedViaStarterPack", strong_ref(&uri, &cid)));
                let rkey = if self.random.percent(80) {
                    "self".to_owned()
                } else {
                    rkey
                };
                self.put(did, "app.bsky.actor.profile", &rkey, fields);
            }
            1 => {
                let fields = vec![
                    ("did", text(did)),
                    ("displayName", text("a feed")),
                    ("createdAt", created_at),
                ];
                let made = self.put(did, "app.bsky.feed.generator", &rkey, fields);
                self.others.push(made);
            }
            2 => {
                let list = text(format!("at://{did}/app.bsky.graph.list/none"));
                let fields = vec![
                    ("name", text("a pack")),
                    ("list", list),
                    ("createdAt", created_at),
                ];
                self.put(did, "app.bsky.graph.starterpack", &rkey, fields);
            }
            3 => {
                let policies = Value::Map(vec![("labelValues", Value::List(vec![text("spam")]))]);
                let rkey = if self.random.percent(70) {
                    "self".to_owned()
                } else {
                    rkey
                };
                self.put(
                    did,
                    "app.bsky.labeler.service",
                    &rkey,
                    vec![("policies", policies), ("createdAt", created_at)],
                );
            }
            4 => {
                _ = self.put(
                    did,
                    "chat.bsky.actor.declaration",
                    "self",
                    vec![("allowIncoming", Value::Number(1))],
                );
            }
            5 => {
                let fields = vec![
                    ("status", text("app.bsky.actor.status#live")),
                    ("createdAt", created_at),
                ];
                self.put(did, "app.bsky.actor.status", &rkey, fields);
            }
            _ => {
                _ = self.put(
                    did,
                    "org.example.note",
                    &rkey,
                    vec![("text", text("nobody's"))],
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tangle;

    #[test]
    fn repos_are_whole_and_the_same_for_the_same_seed() {
        let (one, two) = (Tangle::new(1, 8, 800), Tangle::new(1, 8, 800));
        for did in one.dids() {
            let car = one.car(did);
            atrepo::Repo::open(&car, did).unwrap().check().unwrap();
            assert!(car == two.car(did));
        }
        let knotted = Tangle::knotted(1, 8, 800);
        for did in knotted.dids() {
            atrepo::Repo::open(&knotted.car(did), did)
                .unwrap()
                .check()
                .unwrap();
        }
    }
}
