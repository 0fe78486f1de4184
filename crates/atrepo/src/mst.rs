//! The Merkle search tree: a walk in key order that enforces every rule
//! (<https://atproto.com/specs/repository#mst-structure>).
//!
//! A key has a *layer*: the number of leading zero bits of its SHA-256, divided by two. A node
//! holds the keys of one layer and, before, between and after them, links to subtrees of the layer
//! below. A key is stored as the number of bytes that it shares with the previous key in the node,
//! and the rest.
//!
//! A node without keys is legal only between two layers that have keys, so it must have a left
//! link. The root has keys unless the whole tree is empty. The layer falls by exactly one with each
//! link, which ends every cycle and bounds the depth at 128. Keys rise strictly over the whole walk
//! and every node leads to a key, so a node that is reached twice is detected at its first key.
//! Therefore no small file can cause a long walk.

use crate::cbor::{self, Item, Map, Value};
use crate::cid::{Cid, Codec};
use crate::error::RepoError;
use crate::limits::MAX_NODE_BYTES;
use crate::work;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;

mod invert;
pub(crate) use invert::{Change, InvertError, previous_root};

/// Longest key that is accepted. An NSID has up to 317 bytes, then a slash and a record key of up
/// to 512. Longer keys cannot be valid; up to this length they are skipped as records, and the tree
/// is not refused.
pub const MAX_KEY_BYTES: usize = 1024;

/// Maximum total length of the keys that wait. A key is stored as its difference from the previous
/// one, so a small node can expand to a large one. Real trees stay under some kilobytes.
const MAX_WAITING_KEY_BYTES: usize = 16 << 20;

/// The layer of a key: the leading zero bits of its SHA-256, two per layer.
#[must_use]
pub fn layer(key: &[u8]) -> u32 {
    work::add(key.len());
    let mut bits = 0u32;
    for byte in Sha256::digest(key) {
        bits = bits.saturating_add(byte.leading_zeros());
        if byte != 0 {
            break;
        }
    }
    bits >> 1
}

/// A key and the CID that it points to.
pub struct Leaf<'w> {
    /// The key, `collection/rkey` if it is valid.
    pub key: &'w [u8],
    /// CID of the record.
    pub cid: Cid,
}

/// A step that the walk has still to do; the last in the list is the next.
enum Todo {
    Node { cid: Cid, layer: Option<u32> },
    Leaf { key_end: usize, cid: Cid },
}

/// Walks the tree under `root` and passes every leaf to `each`, in key order.
///
/// # Errors
/// A node that `get` does not find, or that breaks a rule; or the error that `each`
/// returns.
pub fn walk<'a, E: From<RepoError>>(
    root: Cid,
    get: impl Fn(&Cid) -> Option<&'a [u8]>,
    mut each: impl FnMut(Leaf<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut todo = vec![Todo::Node {
        cid: root,
        layer: None,
    }];
    // Keys of the nodes on the path, end to end; a leaf knows where its key ends.
    let mut keys: Vec<u8> = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    let mut any = false;
    let mut node = Node::default();
    while let Some(next) = todo.pop() {
        match next {
            Todo::Leaf { key_end, cid } => {
                // Keys are pushed in the order of `todo`, so this one is at the end.
                ends.pop();
                let start = ends.last().copied().unwrap_or(0);
                let key = keys.get(start..key_end).unwrap_or_default();
                if any && key <= last.as_slice() {
                    return Err(RepoError::Mst {
                        node: cid,
                        rule: "keys out of order",
                    }
                    .into());
                }
                last.clear();
                last.extend_from_slice(key);
                any = true;
                keys.truncate(start);
                each(Leaf { key: &last, cid })?;
            }
            Todo::Node { cid, layer } => {
                let block = get(&cid).ok_or(RepoError::Missing(cid))?;
                if cid.codec() != Codec::DagCbor {
                    return Err(RepoError::Mst {
                        node: cid,
                        rule: "its CID does not say DAG-CBOR",
                    }
                    .into());
                }
                if block.len() > MAX_NODE_BYTES {
                    let bytes = block.len();
                    return Err(RepoError::NodeTooLarge { node: cid, bytes }.into());
                }
                let is_root = layer.is_none();
                push_node(
                    block, layer, is_root, &mut node, &mut todo, &mut keys, &mut ends,
                )
                .map_err(|rule| RepoError::Mst { node: cid, rule })?;
            }
        }
    }
    Ok(())
}

/// The CID under `key`, or proof that there is none: reads the nodes on the path to it alone, so
/// `get` may have only these.
///
/// # Errors
/// A node on the path that `get` does not find, or that breaks a rule.
pub fn find<'a>(
    root: Cid,
    key: &[u8],
    get: impl Fn(&Cid) -> Option<&'a [u8]>,
) -> Result<Option<Cid>, RepoError> {
    let (mut cid, mut expected, mut node) = (root, None, Node::default());
    // The layer falls with each step, so this ends.
    loop {
        let block = get(&cid).ok_or(RepoError::Missing(cid))?;
        if cid.codec() != Codec::DagCbor || block.len() > MAX_NODE_BYTES {
            let rule = "it is no node";
            return Err(RepoError::Mst { node: cid, rule });
        }
        let layer = read_node(block, expected, &mut node)
            .map_err(|rule| RepoError::Mst { node: cid, rule })?;
        let mut below = node.left;
        for (at, entry) in node.entries.iter().enumerate() {
            match node.key(at).cmp(key) {
                Ordering::Less => below = entry.right,
                Ordering::Equal => return Ok(Some(entry.value)),
                Ordering::Greater => break,
            }
        }
        let (Some(next), Some(layer)) = (below, layer) else {
            return Ok(None);
        };
        let rule = "a subtree below layer 0";
        let below = layer.checked_sub(1);
        expected = Some(below.ok_or(RepoError::Mst { node: cid, rule })?);
        cid = next;
    }
}

/// One entry of a node: the end of its whole key among the node's keys, its value, and the subtree
/// after it.
struct NodeEntry {
    key_end: usize,
    value: Cid,
    right: Option<Cid>,
}

/// A parsed node; its memory is reused for the next one.
#[derive(Default)]
struct Node {
    keys: Vec<u8>,
    entries: Vec<NodeEntry>,
    left: Option<Cid>,
}

impl Node {
    fn clear(&mut self) {
        self.keys.clear();
        self.entries.clear();
        self.left = None;
    }

    /// The key of entry `at`.
    fn key(&self, at: usize) -> &[u8] {
        let end = |at: usize| self.entries.get(at).map_or(0, |entry| entry.key_end);
        let start = at.checked_sub(1).map_or(0, end);
        self.keys.get(start..end(at)).unwrap_or_default()
    }

    /// Adds an entry whose key is the first `shared` bytes of the previous key, then `rest`.
    fn push(
        &mut self,
        shared: u64,
        rest: &[u8],
        value: Cid,
        right: Option<Cid>,
    ) -> Result<(), &'static str> {
        let start = self.keys.len();
        let last = self
            .entries
            .len()
            .checked_sub(1)
            .map_or(start, |at| start.saturating_sub(self.key(at).len()));
        let length = start.saturating_sub(last);
        let shared = usize::try_from(shared)
            .ok()
            .filter(|shared| *shared <= length)
            .ok_or("a prefix longer than the key before")?;
        if shared.saturating_add(rest.len()) > MAX_KEY_BYTES {
            return Err("a key longer than 1024 bytes");
        }
        if start > MAX_WAITING_KEY_BYTES {
            return Err("keys that unpack to more than 16 MiB");
        }
        // The rest of the previous key, after the shared part.
        let other = self
            .keys
            .get(last.saturating_add(shared)..start)
            .unwrap_or_default();
        // The shared part must be the longest possible; otherwise a tree would have several hashes.
        if !other.is_empty() && other.first() == rest.first() {
            return Err("a prefix that is not the longest");
        }
        if shared.saturating_add(rest.len()) == 0 || rest <= other {
            return Err("keys out of order");
        }
        work::add(shared.saturating_add(rest.len()));
        self.keys
            .extend_from_within(last..last.saturating_add(shared));
        self.keys.extend_from_slice(rest);
        self.entries.push(NodeEntry {
            key_end: self.keys.len(),
            value,
            right,
        });
        Ok(())
    }

    /// Reads a node in its one canonical form, fast. `None` if it is not in that form; then
    /// [`Node::read_slowly`] finds out why.
    fn read(&mut self, block: &[u8]) -> Option<Result<(), &'static str>> {
        let rest = block.strip_prefix(b"\xa2ae")?;
        let (4, count, mut rest) = read_head(rest)? else {
            return None;
        };
        for _ in 0..count {
            let after = rest.strip_prefix(b"\xa4ak")?;
            let (2, length, after) = read_head(after)? else {
                return None;
            };
            let (key, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
            let (0, shared, after) = read_head(after.strip_prefix(b"ap")?)? else {
                return None;
            };
            let (right, after) = read_link(after.strip_prefix(b"at")?)?;
            let (value, after) = read_link(after.strip_prefix(b"av")?)?;
            if let Err(rule) = self.push(shared, key, value?, right) {
                return Some(Err(rule));
            }
            rest = after;
        }
        let (left, rest) = read_link(rest.strip_prefix(b"al")?)?;
        self.left = left;
        rest.is_empty().then_some(Ok(()))
    }

    /// Reads a node as DAG-CBOR in general, and names what is wrong with it.
    fn read_slowly(&mut self, block: &[u8]) -> Result<(), &'static str> {
        let map = cbor::check(block)
            .ok()
            .and_then(|item| item.as_map())
            .ok_or("not a canonical DAG-CBOR map")?;
        let entries = map.get("e").ok_or("the field e, its entries, is absent")?;
        let left = map
            .get("l")
            .ok_or("the field l, its first subtree, is absent")?;
        if map.len() != 2 {
            return Err("fields other than e and l");
        }
        let Value::List(list) = entries.value() else {
            return Err("the field e is no list");
        };
        self.left = link_or_null(left)?;
        for item in list {
            let (shared, rest, value, right) =
                read_entry(item.as_map().ok_or("an entry that is no map")?)?;
            self.push(shared, rest, value, right)?;
        }
        Ok(())
    }
}

/// Major type and argument of a head in its shortest form, with up to two bytes of argument, and
/// the bytes after it.
fn read_head(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (major, info) = (first >> 5, first & 0x1f);
    match (info, rest) {
        (0..=23, _) => Some((major, u64::from(info), rest)),
        (24, [argument, rest @ ..]) if *argument >= 24 => Some((major, u64::from(*argument), rest)),
        (25, [high, low, rest @ ..]) if *high > 0 => {
            Some((major, u64::from(u16::from_be_bytes([*high, *low])), rest))
        }
        _ => None,
    }
}

/// A link to a block, or null, and the bytes after it.
fn read_link(bytes: &[u8]) -> Option<(Option<Cid>, &[u8])> {
    if let Some(rest) = bytes.strip_prefix(b"\xf6") {
        return Some((None, rest));
    }
    // Tag 42, 37 bytes; the first is the multibase prefix of binary.
    let (cid, rest) = Cid::read(bytes.strip_prefix(b"\xd8\x2a\x58\x25\x00")?)?;
    Some((Some(cid), rest))
}

/// Reads a node whose keys are all in the `expected` layer, if that is known; returns their layer.
fn read_node(
    block: &[u8],
    expected: Option<u32>,
    node: &mut Node,
) -> Result<Option<u32>, &'static str> {
    node.clear();
    match node.read(block) {
        Some(outcome) => outcome?,
        None => {
            node.clear();
            node.read_slowly(block)?;
        }
    }
    let mut layer = expected;
    for at in 0..node.entries.len() {
        let of_key = self::layer(node.key(at));
        if *layer.get_or_insert(of_key) != of_key {
            return Err("a key in the wrong layer");
        }
    }
    Ok(layer)
}

/// Reads a node and pushes its parts to the list of steps, the last part first.
fn push_node(
    block: &[u8],
    expected: Option<u32>,
    is_root: bool,
    node: &mut Node,
    todo: &mut Vec<Todo>,
    keys: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Result<(), &'static str> {
    let layer = read_node(block, expected, node)?;
    if keys.len().saturating_add(node.keys.len()) > MAX_WAITING_KEY_BYTES {
        return Err("keys that unpack to more than 16 MiB");
    }
    let left = node.left;
    let layer = match layer {
        Some(layer) => layer,
        None if left.is_none() => return Ok(()),
        None => return Err("a root with a subtree but no key"),
    };
    if !is_root && node.entries.is_empty() && left.is_none() {
        return Err("an empty node below the root");
    }
    let has_subtree = left.is_some() || node.entries.iter().any(|e| e.right.is_some());
    let below = if has_subtree {
        Some(layer.checked_sub(1).ok_or("a subtree below layer 0")?)
    } else {
        None
    };
    for (at, entry) in node.entries.iter().enumerate().rev() {
        if let Some(cid) = entry.right {
            todo.push(Todo::Node { cid, layer: below });
        }
        keys.extend_from_slice(node.key(at));
        ends.push(keys.len());
        todo.push(Todo::Leaf {
            key_end: keys.len(),
            cid: entry.value,
        });
    }
    if let Some(cid) = left {
        todo.push(Todo::Node { cid, layer: below });
    }
    Ok(())
}

/// Shared length, rest of the key, value and right subtree.
fn read_entry(map: Map<'_>) -> Result<(u64, &[u8], Cid, Option<Cid>), &'static str> {
    let rest = map
        .get("k")
        .ok_or("an entry whose field k, its key, is absent")?;
    let shared = map
        .get("p")
        .ok_or("an entry whose field p, its prefix length, is absent")?;
    let right = map
        .get("t")
        .ok_or("an entry whose field t, its subtree, is absent")?;
    let value = map
        .get("v")
        .ok_or("an entry whose field v, its record, is absent")?;
    if map.len() != 4 {
        return Err("an entry with fields other than k, p, t and v");
    }
    let Value::Bytes(rest) = rest.value() else {
        return Err("an entry whose key is no bytes");
    };
    let Value::Unsigned(shared) = shared.value() else {
        return Err("an entry whose prefix length is no number");
    };
    let Value::Link(value) = value.value() else {
        return Err("an entry whose record is no link");
    };
    let value =
        Cid::from_bytes(value.as_bytes()).ok_or("a record link that is no CIDv1 of SHA-256")?;
    Ok((shared, rest, value, link_or_null(right)?))
}

fn link_or_null(subtree: Item<'_>) -> Result<Option<Cid>, &'static str> {
    match subtree.value() {
        Value::Null => Ok(None),
        Value::Link(link) => Cid::from_bytes(link.as_bytes())
            .map(Some)
            .ok_or("a subtree link that is no CIDv1 of SHA-256"),
        _ => Err("a subtree that is neither link nor null"),
    }
}
