//! The Merkle search tree, walked in key order with every rule enforced
//! (<https://atproto.com/specs/repository#mst-structure>).
//!
//! Terms: a key has a *layer*, the number of leading zero bits of its SHA-256 divided by two. A node holds
//! the keys of one layer and, before, between and after them, links to subtrees of the layer below. A key is
//! stored as the number of bytes that it shares with the key before it in the node, and the rest.
//!
//! Tricky bits. A node without keys is legal only between two layers that have keys, so it must have a left
//! link; the root has keys unless the whole tree is empty. The layer falls by exactly one with each link,
//! which ends every cycle and bounds the depth at 128. Keys rise strictly over the whole walk and every node
//! leads to a key, so a node reached twice is caught at its first key: no small file can ask for a long walk.

use crate::cbor::{self, Map, Value};
use crate::cid::{Cid, Codec};
use crate::error::RepoError;
use sha2::{Digest, Sha256};

/// Longest key that is taken: an NSID of 317 bytes, a slash, a record key of 512. Longer ones cannot be valid,
/// but are skipped as records, not refused as trees, up to this length.
pub const MAX_KEY_BYTES: usize = 1024;

/// Most bytes of keys that wait at once. Keys are stored as what differs from the one before, so a small node can
/// unpack to a large one; real trees stay under some kilobytes.
const MAX_WAITING_KEY_BYTES: usize = 16 << 20;

/// The layer of a key: leading zero bits of its SHA-256, two to a layer.
#[must_use]
pub fn layer(key: &[u8]) -> u32 {
    let mut bits = 0u32;
    for byte in Sha256::digest(key) {
        bits = bits.saturating_add(byte.leading_zeros());
        if byte != 0 {
            break;
        }
    }
    bits >> 1
}

/// A key and what it points to.
pub struct Leaf<'w> {
    /// The key, `collection/rkey` if it is valid.
    pub key: &'w [u8],
    /// CID of the record.
    pub cid: Cid,
}

/// What the walk does next, the last first.
enum Todo {
    Node { cid: Cid, layer: Option<u32> },
    Leaf { key_end: usize, cid: Cid },
}

/// Walks the tree under `root` and hands every leaf, in key order, to `each`.
///
/// # Errors
/// A node that `get` does not find, or one that breaks a rule; or what `each` answers.
pub fn walk<'a, E: From<RepoError>>(
    root: Cid,
    get: impl Fn(&Cid) -> Option<&'a [u8]>,
    mut each: impl FnMut(Leaf<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut todo = vec![Todo::Node {
        cid: root,
        layer: None,
    }];
    // Keys of the nodes on the way down, end to end; a leaf remembers where its key ends.
    let mut keys: Vec<u8> = Vec::new();
    let mut ends: Vec<usize> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    let mut any = false;
    while let Some(next) = todo.pop() {
        match next {
            Todo::Leaf { key_end, cid } => {
                // Keys are pushed in the order of `todo`, so this one lies at the end.
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
                let is_root = layer.is_none();
                push_node(block, layer, is_root, &mut todo, &mut keys, &mut ends)
                    .map_err(|rule| RepoError::Mst { node: cid, rule })?;
            }
        }
    }
    Ok(())
}

/// One entry of a node: the whole key, its value, the subtree after it.
struct NodeEntry {
    key: Vec<u8>,
    value: Cid,
    right: Option<Cid>,
}

/// Reads a node and puts its parts on the list of things to do, the last first.
fn push_node(
    block: &[u8],
    expected: Option<u32>,
    is_root: bool,
    todo: &mut Vec<Todo>,
    keys: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) -> Result<(), &'static str> {
    let map = cbor::check(block)
        .ok()
        .and_then(|item| item.as_map())
        .ok_or("not a canonical DAG-CBOR map")?;
    if map.len() != 2 {
        return Err("fields other than e and l");
    }
    let Some(Value::List(list)) = map.get("e").map(|v| v.value()) else {
        return Err("no list of entries");
    };
    let left = link_or_null(map, "l")?;
    let mut entries: Vec<NodeEntry> = Vec::new();
    let mut layer = expected;
    let mut waiting = keys.len();
    for item in list {
        let before = entries.last().map_or(&[][..], |e| e.key.as_slice());
        let entry = read_entry(item.as_map().ok_or("an entry that is no map")?, before)?;
        let of_key = self::layer(&entry.key);
        if *layer.get_or_insert(of_key) != of_key {
            return Err("a key in the wrong layer");
        }
        waiting = waiting.saturating_add(entry.key.len());
        if waiting > MAX_WAITING_KEY_BYTES {
            return Err("keys that unpack to more than 16 MiB");
        }
        entries.push(entry);
    }
    let layer = match layer {
        Some(layer) => layer,
        None if left.is_none() => return Ok(()),
        None => return Err("a root with a subtree but no key"),
    };
    if !is_root && entries.is_empty() && left.is_none() {
        return Err("an empty node below the root");
    }
    let has_subtree = left.is_some() || entries.iter().any(|e| e.right.is_some());
    let below = if has_subtree {
        Some(layer.checked_sub(1).ok_or("a subtree below layer 0")?)
    } else {
        None
    };
    for entry in entries.iter().rev() {
        if let Some(cid) = entry.right {
            todo.push(Todo::Node { cid, layer: below });
        }
        keys.extend_from_slice(&entry.key);
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

fn read_entry(map: Map<'_>, before: &[u8]) -> Result<NodeEntry, &'static str> {
    if map.len() != 4 {
        return Err("an entry with fields other than k, p, t and v");
    }
    let Some(Value::Bytes(rest)) = map.get("k").map(|v| v.value()) else {
        return Err("an entry without a key");
    };
    let Some(Value::Unsigned(shared)) = map.get("p").map(|v| v.value()) else {
        return Err("an entry without a prefix length");
    };
    let shared = usize::try_from(shared)
        .ok()
        .and_then(|n| before.get(..n))
        .ok_or("a prefix longer than the key before")?;
    if shared.len().saturating_add(rest.len()) > MAX_KEY_BYTES {
        return Err("a key longer than 1024 bytes");
    }
    // The shared part is the longest one, else the same tree would have several hashes.
    if before
        .get(shared.len())
        .is_some_and(|next| rest.first() == Some(next))
    {
        return Err("a prefix that is not the longest");
    }
    let key = [shared, rest].concat();
    if key.is_empty() || key.as_slice() <= before {
        return Err("keys out of order");
    }
    let Some(Value::Link(value)) = map.get("v").map(|v| v.value()) else {
        return Err("an entry without a record");
    };
    let value = Cid::from_bytes(value.as_bytes()).ok_or("a record link that is no CIDv1 of SHA-256")?;
    Ok(NodeEntry {
        key,
        value,
        right: link_or_null(map, "t")?,
    })
}

fn link_or_null(map: Map<'_>, key: &str) -> Result<Option<Cid>, &'static str> {
    match map.get(key).map(|v| v.value()) {
        Some(Value::Null) => Ok(None),
        Some(Value::Link(link)) => Cid::from_bytes(link.as_bytes())
            .map(Some)
            .ok_or("a subtree link that is no CIDv1 of SHA-256"),
        _ => Err("a subtree that is neither link nor null"),
    }
}
