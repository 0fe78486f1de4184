//! Records like those of the real network: mix, sizes, references to each other.

use crate::random::Random;
use crate::repo::build_repo;
use atrepo::cbor::Writer;
use atrepo::{Cid, Codec, syntax};
use rows::datetime;
use std::collections::HashSet;

/// How many of a hundred records are of which kind. The rest are blocks, and records of another
/// application.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Likes.
    pub likes: u64,
    /// Follows.
    pub follows: u64,
    /// Posts.
    pub posts: u64,
    /// Reposts.
    pub reposts: u64,
}

impl Mix {
    /// As in the real network (DESIGN, section 8).
    pub const REAL: Self = Self {
        likes: 60,
        follows: 15,
        posts: 12,
        reposts: 8,
    };
}

/// When a record is made, and what it may be.
struct Moment {
    micros: u64,
    clock: u64,
    /// Which kind of record, of a hundred.
    roll: u64,
}

/// A post that others can point to.
struct Post {
    uri: String,
    /// Account and number of what it replies to.
    parent: Option<(usize, usize)>,
}

/// What an account follows, blocks, likes and reposts already: twice would be a duplicate.
#[derive(Default)]
struct Known {
    followed: HashSet<usize>,
    blocked: HashSet<usize>,
    liked: HashSet<String>,
    reposted: HashSet<String>,
}

/// Microseconds since 1970 at which the first generated record is made: 2023-06-01.
const BEGINNING: u64 = 1_685_577_600_000_000;
/// Generated records span so many microseconds: about 30 months.
const SPAN: u64 = 78_000_000_000_000;

/// Accounts that know each other.
#[derive(Clone, Debug)]
pub struct Population {
    seed: u64,
    /// Records of each repo.
    sizes: Vec<usize>,
    mix: Mix,
}

impl Population {
    /// `repos` accounts with about `records` records in all. Sizes are spread as real ones are:
    /// most accounts have a handful, a few have most of the records.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn new(seed: u64, repos: usize, records: usize) -> Self {
        let mut random = Random::new(seed);
        // A Pareto distribution with a shape near 1, bounded at a fifth of all.
        let weights: Vec<f64> = (0..repos)
            .map(|_| (1.0 / (1.0 - random.unit() * 0.9995)).powf(0.95))
            .collect();
        let total: f64 = weights.iter().sum();
        let sizes = weights
            .iter()
            .map(|weight| {
                ((weight / total).min(0.2) * records as f64)
                    .round()
                    .max(1.0) as usize
            })
            .collect();
        Self {
            seed,
            sizes,
            mix: Mix::REAL,
        }
    }

    /// Number of accounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// The DID of account `account`.
    #[must_use]
    pub fn did(&self, account: usize) -> String {
        const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut random =
            Random::new(self.seed ^ (account as u64).wrapping_mul(0xa076_1d64_78bd_642f));
        let id: String = (0..24)
            .map(|_| char::from(DIGITS[random.index(32)]))
            .collect();
        format!("did:plc:{id}")
    }

    /// The CAR of account `account`.
    #[must_use]
    pub fn car(&self, account: usize) -> Vec<u8> {
        build_repo(
            &self.did(account),
            &Self::rev(account),
            self.records(account),
        )
    }

    /// The rev of the repo of account `account`.
    pub(crate) fn rev(account: usize) -> String {
        syntax::tid(Self::END + account as u64, 1)
    }

    /// Number of records of account `account`.
    pub(crate) fn size(&self, account: usize) -> usize {
        self.sizes.get(account).copied().unwrap_or(0)
    }

    /// Microseconds since 1970 before which all records of a population are made.
    pub(crate) const END: u64 = BEGINNING + SPAN;

    /// A record that somebody of these accounts makes later, and its collection. `roll` says which
    /// kind of record, of a hundred.
    pub(crate) fn later_record(
        &self,
        micros: u64,
        roll: u64,
        random: &mut Random,
    ) -> (&'static str, Vec<u8>) {
        let clock = 0;
        let at = datetime::print(i64::try_from(micros / 1000).unwrap_or(0));
        self.record(
            &Moment {
                micros,
                clock,
                roll,
            },
            &at,
            &mut Known::default(),
            random,
        )
    }

    /// The records of account `account`: key and DAG-CBOR.
    #[must_use]
    pub fn records(&self, account: usize) -> Vec<(String, Vec<u8>)> {
        let size = self.sizes.get(account).copied().unwrap_or(0);
        let mut random = Random::new(
            self.seed.wrapping_add(1) ^ (account as u64).wrapping_mul(0xe703_7ed1_a0b4_28db),
        );
        let mut records = vec![(
            "app.bsky.actor.profile/self".to_owned(),
            self.profile(account, &mut random),
        )];
        let mut known = Known::default();
        for n in 1..size {
            let (moment, mut random) = self.moment(account, n);
            let tid = syntax::tid(moment.micros, moment.clock);
            let at = datetime::print(i64::try_from(moment.micros / 1000).unwrap_or(0));
            let (collection, bytes) = self.record(&moment, &at, &mut known, &mut random);
            records.push((format!("{collection}/{tid}"), bytes));
        }
        records
    }

    /// When record `n` of an account is made and what it may be, and the numbers that the rest of
    /// it is made from: others can point to it without making it.
    fn moment(&self, account: usize, n: usize) -> (Moment, Random) {
        let mut random = Random::new(
            self.seed.wrapping_add(2)
                ^ (account as u64).wrapping_mul(0xe703_7ed1_a0b4_28db)
                ^ (n as u64).wrapping_mul(0x8ebc_6af0_9c88_c6e3),
        );
        let size = self.sizes.get(account).copied().unwrap_or(0);
        let step = SPAN / (size as u64 + 1);
        let moment = Moment {
            micros: BEGINNING + n as u64 * step + random.below(step.max(1)),
            clock: random.below(1024),
            roll: random.below(100),
        };
        (moment, random)
    }

    /// The post that record `n` of an account is, if it is one.
    fn post_at(&self, account: usize, n: usize) -> Option<Post> {
        let (moment, mut random) = self.moment(account, n);
        let before_posts = self.mix.likes + self.mix.follows;
        (before_posts..before_posts + self.mix.posts)
            .contains(&moment.roll)
            .then(|| Post {
                uri: format!(
                    "at://{}/app.bsky.feed.post/{}",
                    self.did(account),
                    syntax::tid(moment.micros, moment.clock)
                ),
                parent: self.parent(moment.micros, &mut random),
            })
    }

    /// Account and number of the post that a post of this time replies to; the first of its numbers
    /// say so.
    fn parent(&self, micros: u64, random: &mut Random) -> Option<(usize, usize)> {
        let replies = random.percent(45);
        let (account, n) = self.some_post(random)?;
        let (moment, _) = self.moment(account, n);
        (replies && moment.micros < micros).then_some((account, n))
    }

    /// Account and number of a post of somebody.
    fn some_post(&self, random: &mut Random) -> Option<(usize, usize)> {
        let before_posts = self.mix.likes + self.mix.follows;
        (0..20).find_map(|_| {
            let account = self.somebody(random);
            let n = 1 + random.index(self.sizes.get(account)?.checked_sub(1)?);
            let roll = self.moment(account, n).0.roll;
            (before_posts..before_posts + self.mix.posts)
                .contains(&roll)
                .then_some((account, n))
        })
    }

    /// The root of the thread that a post is in.
    fn root(&self, mut at: (usize, usize)) -> Option<Post> {
        // Each parent is older than its replies.
        loop {
            let post = self.post_at(at.0, at.1)?;
            match post.parent {
                Some(parent) => at = parent,
                None => return Some(post),
            }
        }
    }

    fn record(
        &self,
        moment: &Moment,
        at: &str,
        known: &mut Known,
        random: &mut Random,
    ) -> (&'static str, Vec<u8>) {
        let Mix {
            likes,
            follows,
            posts,
            reposts,
        } = self.mix;
        let roll = moment.roll;
        if roll < likes {
            (
                "app.bsky.feed.like",
                self.subject_record("app.bsky.feed.like", at, &mut known.liked, random),
            )
        } else if roll < likes + follows {
            match self.stranger(&mut known.followed, random) {
                Some(subject) => (
                    "app.bsky.graph.follow",
                    self.did_record("app.bsky.graph.follow", subject, at),
                ),
                None => ("org.example.note", self.note(at, random)),
            }
        } else if roll < likes + follows + posts {
            ("app.bsky.feed.post", self.post(moment, at, random))
        } else if roll < likes + follows + posts + reposts {
            (
                "app.bsky.feed.repost",
                self.subject_record("app.bsky.feed.repost", at, &mut known.reposted, random),
            )
        } else {
            match self
                .stranger(&mut known.blocked, random)
                .filter(|_| random.percent(60))
            {
                Some(subject) => (
                    "app.bsky.graph.block",
                    self.did_record("app.bsky.graph.block", subject, at),
                ),
                None => ("org.example.note", self.note(at, random)),
            }
        }
    }

    /// Somebody who is not in `known` yet, and is from now on; nobody if it takes too long to find
    /// one.
    fn stranger(&self, known: &mut HashSet<usize>, random: &mut Random) -> Option<usize> {
        (0..20)
            .map(|_| self.somebody(random))
            .find(|account| known.insert(*account))
    }

    /// Somebody; a few accounts are known to many.
    fn somebody(&self, random: &mut Random) -> usize {
        let count = self.len().max(1);
        if random.percent(30) {
            random.index(count.min(50))
        } else {
            random.index(count)
        }
    }

    /// A post of somebody; now and then one that is not there any more.
    fn post_uri(&self, random: &mut Random) -> (String, Cid) {
        let there = self.some_post(random).filter(|_| random.percent(97));
        let uri = there
            .and_then(|(account, n)| self.post_at(account, n))
            .map_or_else(
                || {
                    let author = self.did(self.somebody(random));
                    let tid = syntax::tid(BEGINNING + random.below(SPAN), random.below(1024));
                    format!("at://{author}/app.bsky.feed.post/{tid}")
                },
                |post| post.uri,
            );
        let cid = cid_of(&uri);
        (uri, cid)
    }

    fn subject_record(
        &self,
        kind: &str,
        at: &str,
        known: &mut HashSet<String>,
        random: &mut Random,
    ) -> Vec<u8> {
        // Not twice, unless it takes too long to find another one.
        let (uri, cid) = (0..5)
            .map(|_| self.post_uri(random))
            .find(|(uri, _)| !known.contains(uri))
            .unwrap_or_else(|| self.post_uri(random));
        known.insert(uri.clone());
        let mut w = Writer::new();
        w.map(3).text("$type").text(kind).text("subject");
        strong_ref(&mut w, &uri, &cid).text("createdAt").text(at);
        w.into_bytes()
    }

    fn did_record(&self, kind: &str, subject: usize, at: &str) -> Vec<u8> {
        let did = self.did(subject);
        let mut w = Writer::new();
        w.map(3)
            .text("$type")
            .text(kind)
            .text("subject")
            .text(&did)
            .text("createdAt")
            .text(at);
        w.into_bytes()
    }

    pub(crate) fn profile(&self, account: usize, random: &mut Random) -> Vec<u8> {
        let mut w = Writer::new();
        w.map(4)
            .text("$type")
            .text("app.bsky.actor.profile")
            .text("createdAt")
            .text("2023-06-01T00:00:00.000Z");
        w.text("description")
            .text(&words(random, 12))
            .text("displayName")
            .text(&format!("Account {account}"));
        w.into_bytes()
    }

    fn note(&self, at: &str, random: &mut Random) -> Vec<u8> {
        let mut w = Writer::new();
        w.map(3)
            .text("text")
            .text(&words(random, 8))
            .text("$type")
            .text("org.example.note")
            .text("createdAt")
            .text(at);
        w.into_bytes()
    }

    fn post(&self, moment: &Moment, at: &str, random: &mut Random) -> Vec<u8> {
        let parent = self.parent(moment.micros, random);
        let reply = parent.and_then(|at| Some((self.root(at)?.uri, self.post_at(at.0, at.1)?.uri)));
        let embed = random.percent(30);
        let facets = random.percent(12);
        let length = 3 + random.below(25);
        let text = words(random, length);
        let mut w = Writer::new();
        w.map(4 + u64::from(reply.is_some()) + u64::from(embed) + u64::from(facets));
        w.text("text")
            .text(&text)
            .text("$type")
            .text("app.bsky.feed.post");
        if embed {
            self.embed(w.text("embed"), random);
        }
        w.text("langs")
            .list(1)
            .text(if random.percent(50) { "en" } else { "ja" });
        if let Some((root, parent)) = reply {
            w.text("reply").map(2).text("root");
            strong_ref(&mut w, &root, &cid_of(&root)).text("parent");
            strong_ref(&mut w, &parent, &cid_of(&parent));
        }
        if facets {
            let did = self.did(self.somebody(random));
            w.text("facets")
                .list(1)
                .map(2)
                .text("index")
                .map(2)
                .text("byteEnd")
                .integer(3)
                .text("byteStart")
                .integer(0);
            w.text("features").list(1).map(2).text("did").text(&did);
            w.text("$type").text("app.bsky.richtext.facet#mention");
        }
        w.text("createdAt").text(at);
        w.into_bytes()
    }

    fn embed(&self, w: &mut Writer, random: &mut Random) {
        match random.below(100) {
            0..50 => {
                w.map(2)
                    .text("$type")
                    .text("app.bsky.embed.images")
                    .text("images")
                    .list(1)
                    .map(2);
                w.text("alt").text(&words(random, 4)).text("image");
                blob(w, random, "image/jpeg");
            }
            50..75 => {
                w.map(2)
                    .text("$type")
                    .text("app.bsky.embed.external")
                    .text("external")
                    .map(3);
                w.text("uri")
                    .text("https://example.com/a/page")
                    .text("title")
                    .text(&words(random, 5));
                w.text("description").text(&words(random, 15));
            }
            75..92 => {
                let (uri, cid) = self.post_uri(random);
                w.map(2)
                    .text("$type")
                    .text("app.bsky.embed.record")
                    .text("record");
                strong_ref(w, &uri, &cid);
            }
            _ => {
                w.map(2)
                    .text("$type")
                    .text("app.bsky.embed.video")
                    .text("video");
                blob(w, random, "video/mp4");
            }
        }
    }
}

/// The CID under which a post is pointed to: a made-up one, since a real one would need the posts
/// that it points to.
fn cid_of(uri: &str) -> Cid {
    Cid::of(Codec::DagCbor, uri.as_bytes())
}

fn strong_ref<'w>(w: &'w mut Writer, uri: &str, cid: &Cid) -> &'w mut Writer {
    w.map(2)
        .text("cid")
        .text(&cid.to_string())
        .text("uri")
        .text(uri)
}

fn blob(w: &mut Writer, random: &mut Random, mime_type: &str) {
    let cid = Cid::of(Codec::Raw, &random.next_u64().to_be_bytes());
    w.map(4)
        .text("ref")
        .cid(&cid)
        .text("size")
        .integer(100_000)
        .text("$type")
        .text("blob");
    w.text("mimeType").text(mime_type);
}

fn words(random: &mut Random, count: u64) -> String {
    const WORDS: &[&str] = &[
        "the",
        "sky",
        "is",
        "wide",
        "and",
        "a",
        "post",
        "reads",
        "like",
        "this",
        "one",
        "with",
        "some",
        "löng",
        "words",
        "空",
        "today",
        "we",
        "saw",
        "birds",
        "\"quoted\"",
        "🦋",
        "never",
        "again",
        "maybe",
        "later",
        "morning",
        "coffee",
    ];
    (0..count)
        .map(|_| WORDS[random.index(WORDS.len())])
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rows::{Collection, Record, Rows};

    #[test]
    fn every_generated_record_is_canonical_and_leaves_its_rows() {
        let population = Population::new(7, 40, 4000);
        let mut indexed = 0;
        for account in 0..population.len() {
            for (key, bytes) in population.records(account) {
                let value = atrepo::cbor::check(&bytes)
                    .unwrap_or_else(|e| panic!("{key}: {e}"))
                    .as_map()
                    .unwrap();
                let (collection, rkey) = key.split_once('/').unwrap();
                let Some(collection) = Collection::parse(collection) else {
                    continue;
                };
                let (did, uri) = (population.did(account), format!("at://x/{key}"));
                let record = Record {
                    did: &did,
                    collection,
                    rkey,
                    uri: &uri,
                    cid: "c",
                    indexed_at: "2024-01-01T00:00:00.000Z",
                    value,
                };
                rows::index(&record, &mut Rows::new(&mut |_, _| {}))
                    .unwrap_or_else(|e| panic!("{key}: {e}"));
                indexed += 1;
            }
            atrepo::Repo::open(&population.car(account), &population.did(account))
                .unwrap()
                .check()
                .unwrap();
        }
        assert!(indexed > 3000, "{indexed}");
    }
}
