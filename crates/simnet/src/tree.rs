//! A tree that changes: the MST of a repo from commit to commit, and the blocks that the event of a
//! commit carries. It works as the official PDS does (`packages/repo/src/mst/mst.ts`,
//! `formatCommit` in `packages/repo/src/repo.ts`): nodes are split and merged, and an event has the
//! new nodes and, for each operation, those around its key (`getCoveringProof`).

use crate::random::Random;
use atrepo::cbor::Writer;
use atrepo::sync::{Action, Op};
use atrepo::{Cid, Codec, mst};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The MST of a repo, without its records.
#[derive(Clone)]
pub struct Tree {
    root: Arc<Node>,
}

/// What is written under a key: a record, or nothing.
#[derive(Clone, Debug)]
pub struct Write {
    /// Key in the tree.
    pub key: String,
    /// The record as DAG-CBOR; none to delete it.
    pub record: Option<Arc<Vec<u8>>>,
}

/// What a batch of writes did.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Root of the tree before.
    pub prev_data: Cid,
    /// Root of the tree now.
    pub data: Cid,
    /// One operation for each write.
    pub ops: Vec<Op>,
    /// New nodes, nodes around each key, and records: all that an event carries but the commit.
    pub blocks: BTreeMap<Cid, Arc<Vec<u8>>>,
}

#[derive(Clone)]
enum Entry {
    Leaf(Arc<str>, Cid),
    Tree(Arc<Node>),
}

struct Node {
    layer: u32,
    entries: Vec<Entry>,
    /// Set once all below it is done.
    block: OnceLock<(Cid, Arc<Vec<u8>>)>,
}

impl Node {
    fn new(layer: u32, entries: Vec<Entry>) -> Arc<Self> {
        Arc::new(Self {
            layer,
            entries,
            block: OnceLock::new(),
        })
    }

    /// The node and its CID. What is computed for it is put into `new`.
    fn seal(&self, new: &mut BTreeMap<Cid, Arc<Vec<u8>>>) -> Cid {
        if let Some((cid, _)) = self.block.get() {
            return *cid;
        }
        let below: Vec<Option<Cid>> = self
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::Leaf(..) => None,
                Entry::Tree(node) => Some(node.seal(new)),
            })
            .collect();
        let block = Arc::new(self.encode(&below));
        let cid = Cid::of(Codec::DagCbor, &block);
        new.insert(cid, Arc::clone(&block));
        self.block.get_or_init(|| (cid, block)).0
    }

    fn encode(&self, below: &[Option<Cid>]) -> Vec<u8> {
        let leaves = below.iter().filter(|cid| cid.is_none()).count();
        let mut w = Writer::new();
        w.map(2).text("e").list(leaves as u64);
        let mut before: &[u8] = &[];
        for (at, entry) in self.entries.iter().enumerate() {
            let Entry::Leaf(key, value) = entry else {
                continue;
            };
            let shared = key.bytes().zip(before).take_while(|(a, b)| a == *b).count();
            w.map(4)
                .text("k")
                .bytes(&key.as_bytes()[shared..])
                .text("p")
                .unsigned(shared as u64)
                .text("t");
            link_or_null(&mut w, below.get(at + 1).copied().flatten())
                .text("v")
                .cid(value);
            before = key.as_bytes();
        }
        w.text("l");
        link_or_null(&mut w, below.first().copied().flatten());
        w.into_bytes()
    }

    /// Place of the first key that is not less than `key`.
    fn place(&self, key: &str) -> usize {
        let is_there = |entry: &Entry| matches!(entry, Entry::Leaf(of, _) if &**of >= key);
        let found = self.entries.iter().position(is_there);
        found.unwrap_or(self.entries.len())
    }

    /// The subtree at a place.
    fn tree(&self, place: Option<usize>) -> Option<&Arc<Node>> {
        match self.entries.get(place?)? {
            Entry::Tree(node) => Some(node),
            Entry::Leaf(..) => None,
        }
    }

    /// Whether `key` stands at a place.
    fn is_at(&self, place: usize, key: &str) -> bool {
        matches!(self.entries.get(place), Some(Entry::Leaf(of, _)) if &**of == key)
    }

    /// A copy with other entries in a range.
    fn with(
        &self,
        range: std::ops::Range<usize>,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Arc<Self> {
        let mut all = self.entries.clone();
        all.splice(range, entries);
        Self::new(self.layer, all)
    }

    fn get(&self, key: &str) -> Option<Cid> {
        let place = self.place(key);
        match self.entries.get(place) {
            Some(Entry::Leaf(of, value)) if &**of == key => Some(*value),
            _ => self.tree(place.checked_sub(1))?.get(key),
        }
    }

    /// A copy with `key` in it, which was not there.
    fn insert(self: &Arc<Self>, key: &Arc<str>, value: Cid, layer: u32) -> Arc<Self> {
        let leaf = Entry::Leaf(Arc::clone(key), value);
        if layer > self.layer {
            let (left, right) = self.split(key);
            let raised =
                |node: Option<Arc<Self>>| node.map(|node| Entry::Tree(raise(node, layer - 1)));
            let entries = raised(left).into_iter().chain([leaf]).chain(raised(right));
            return Self::new(layer, entries.collect());
        }
        let place = self.place(key);
        let below = self.tree(place.checked_sub(1));
        match (layer == self.layer, below) {
            (true, None) => self.with(place..place, [leaf]),
            (true, Some(below)) => {
                let (left, right) = below.split(key);
                let entries = left.map(Entry::Tree).into_iter().chain([leaf]);
                let entries: Vec<Entry> = entries.chain(right.map(Entry::Tree)).collect();
                self.with(place - 1..place, entries)
            }
            (false, None) => {
                let child = raise(Self::new(layer, vec![leaf]), self.layer - 1);
                self.with(place..place, [Entry::Tree(child)])
            }
            (false, Some(below)) => {
                let child = below.insert(key, value, layer);
                self.with(place - 1..place, [Entry::Tree(child)])
            }
        }
    }

    /// What is before `key` and what is after it.
    fn split(&self, key: &str) -> (Option<Arc<Self>>, Option<Arc<Self>>) {
        let (left, right) = self.entries.split_at(self.place(key));
        let (mut left, mut right) = (left.to_vec(), right.to_vec());
        if let Some(Entry::Tree(_)) = left.last()
            && let Some(Entry::Tree(node)) = left.pop()
        {
            let (before, after) = node.split(key);
            left.extend(before.map(Entry::Tree));
            right.splice(0..0, after.map(Entry::Tree));
        }
        let node =
            |entries: Vec<Entry>| (!entries.is_empty()).then(|| Self::new(self.layer, entries));
        (node(left), node(right))
    }

    /// A copy in which `key`, which is there, has another value.
    fn update(&self, key: &str, value: Cid) -> Arc<Self> {
        let place = self.place(key);
        match (self.is_at(place, key), self.tree(place.checked_sub(1))) {
            (false, Some(below)) => {
                let child = below.update(key, value);
                self.with(place - 1..place, [Entry::Tree(child)])
            }
            _ => self.with(place..place + 1, [Entry::Leaf(Arc::from(key), value)]),
        }
    }

    /// A copy without `key`, which is there; nothing if it was the last one.
    fn remove(&self, key: &str) -> Option<Arc<Self>> {
        let place = self.place(key);
        let before = place.checked_sub(1);
        let node = if self.is_at(place, key) {
            match (self.tree(before), self.tree(Some(place + 1))) {
                (Some(left), Some(right)) => {
                    self.with(place - 1..place + 2, [Entry::Tree(left.merge(right))])
                }
                _ => self.with(place..place + 1, []),
            }
        } else {
            let child = self.tree(before).and_then(|below| below.remove(key));
            self.with(place - 1..place, child.map(Entry::Tree))
        };
        (!node.entries.is_empty()).then_some(node)
    }

    /// Both, of which the other one is later.
    fn merge(&self, other: &Self) -> Arc<Self> {
        let mut entries = self.entries.clone();
        let mut rest = &other.entries[..];
        if let (Some(Entry::Tree(left)), Some((Entry::Tree(right), after))) =
            (self.entries.last(), rest.split_first())
        {
            entries.pop();
            entries.push(Entry::Tree(left.merge(right)));
            rest = after;
        }
        entries.extend_from_slice(rest);
        Self::new(self.layer, entries)
    }

    fn show(&self, into: &mut BTreeMap<Cid, Arc<Vec<u8>>>) {
        if let Some((cid, block)) = self.block.get() {
            into.insert(*cid, Arc::clone(block));
        }
    }

    fn all(&self, into: &mut BTreeMap<Cid, Arc<Vec<u8>>>) {
        self.show(into);
        for entry in &self.entries {
            if let Entry::Tree(node) = entry {
                node.all(into);
            }
        }
    }

    /// The nodes down to `key`. Where it is not there, the last one of them is left out.
    fn prove_key(&self, key: &str, into: &mut BTreeMap<Cid, Arc<Vec<u8>>>) {
        let place = self.place(key);
        if !self.is_at(place, key) {
            match self.tree(place.checked_sub(1)) {
                Some(below) => below.prove_key(key, into),
                None => return,
            }
        }
        self.show(into);
    }

    /// The nodes down to what is right before `key`.
    fn prove_left(&self, key: &str, into: &mut BTreeMap<Cid, Arc<Vec<u8>>>) {
        if let Some(below) = self.tree(self.place(key).checked_sub(1)) {
            below.prove_left(key, into);
        }
        self.show(into);
    }

    /// The nodes down to what is right after `key`.
    fn prove_right(&self, key: &str, into: &mut BTreeMap<Cid, Arc<Vec<u8>>>) {
        let place = self.place(key);
        let next = if self.is_at(place, key) {
            Some(place + 1)
        } else {
            place.checked_sub(1)
        };
        if let Some(below) = self.tree(next) {
            below.prove_right(key, into);
        }
        self.show(into);
    }

    fn pick(&self, random: &mut Random) -> Option<(&str, Cid)> {
        match self.entries.get(random.index(self.entries.len()))? {
            Entry::Leaf(key, value) => Some((key, *value)),
            Entry::Tree(node) => node.pick(random),
        }
    }
}

/// Puts nodes without keys above one, up to a layer.
fn raise(mut node: Arc<Node>, layer: u32) -> Arc<Node> {
    while node.layer < layer {
        node = Node::new(node.layer + 1, vec![Entry::Tree(node)]);
    }
    node
}

fn link_or_null(w: &mut Writer, cid: Option<Cid>) -> &mut Writer {
    match cid {
        Some(cid) => w.cid(&cid),
        None => w.null(),
    }
}

impl Default for Tree {
    fn default() -> Self {
        Self::new([])
    }
}

impl Tree {
    /// The tree of these keys and CIDs of records.
    #[must_use]
    pub fn new<'k>(records: impl IntoIterator<Item = (&'k str, Cid)>) -> Self {
        let mut root = Node::new(0, Vec::new());
        for (key, cid) in records {
            root = root.insert(&Arc::from(key), cid, mst::layer(key.as_bytes()));
        }
        root.seal(&mut BTreeMap::new());
        Self { root }
    }

    /// Its root.
    #[must_use]
    pub fn root(&self) -> Cid {
        self.root.seal(&mut BTreeMap::new())
    }

    /// The CID of the record under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Cid> {
        self.root.get(key)
    }

    /// Some key of it and its CID.
    pub fn pick(&self, random: &mut Random) -> Option<(&str, Cid)> {
        self.root.pick(random)
    }

    /// All nodes, by CID.
    pub fn nodes(&self, into: &mut BTreeMap<Cid, Arc<Vec<u8>>>) {
        self.root.all(into);
    }

    /// The nodes around keys: what shows that they are there, or not, and what is beside them.
    #[must_use]
    pub fn covering_proof<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> BTreeMap<Cid, Arc<Vec<u8>>> {
        let mut nodes = BTreeMap::new();
        for key in keys {
            self.root.prove_key(key, &mut nodes);
            self.root.prove_left(key, &mut nodes);
            self.root.prove_right(key, &mut nodes);
        }
        nodes
    }

    /// Writes records, each key once. A key that is not there is not deleted: such a write does
    /// nothing, and has no operation.
    ///
    /// # Panics
    /// A key is not `collection/rkey`.
    pub fn apply(&mut self, writes: &[Write]) -> Changed {
        let (prev_data, mut root) = (self.root(), Arc::clone(&self.root));
        let (mut ops, mut blocks) = (Vec::with_capacity(writes.len()), BTreeMap::new());
        for write in writes {
            let key = write.key.as_str();
            let (prev, cid) = (
                root.get(key),
                write
                    .record
                    .as_ref()
                    .map(|record| Cid::of(Codec::DagCbor, record)),
            );
            let action = match (prev, cid) {
                (None, None) => continue,
                (None, Some(cid)) => {
                    root = root.insert(&Arc::from(key), cid, mst::layer(key.as_bytes()));
                    Action::Create
                }
                (Some(_), Some(cid)) => {
                    root = root.update(key, cid);
                    Action::Update
                }
                (Some(_), None) => {
                    root = trim(root.remove(key));
                    Action::Delete
                }
            };
            if let (Some(cid), Some(record)) = (cid, &write.record) {
                blocks.insert(cid, Arc::clone(record));
            }
            let (collection, rkey) = key.split_once('/').expect("a key of a record");
            ops.push(Op {
                action,
                collection: collection.to_owned(),
                rkey: rkey.to_owned(),
                cid,
                prev,
            });
        }
        let data = root.seal(&mut blocks);
        self.root = root;
        blocks.extend(self.covering_proof(writes.iter().map(|write| write.key.as_str())));
        Changed {
            prev_data,
            data,
            ops,
            blocks,
        }
    }
}

/// A root that is not only a link to the node below.
fn trim(root: Option<Arc<Node>>) -> Arc<Node> {
    let Some(mut root) = root else {
        return Node::new(0, Vec::new());
    };
    while let [Entry::Tree(below)] = &root.entries[..] {
        root = Arc::clone(below);
    }
    root
}
