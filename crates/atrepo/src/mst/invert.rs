//! Takes changes back: computes the root that a tree had before a commit, from the tree after it
//! and the commit's changes. Only the nodes around the changes are needed
//! (<https://atproto.com/specs/sync#firehose-validation-best-practices>, "operation inversion").
//!
//! The tree is walked in key order. A subtree that no change touches is not entered: it is carried
//! over as it is, by its CID. What comes out, keys and whole subtrees in order, is built to a tree
//! again, as [`RootBuilder`] builds one from keys alone. A subtree can be carried over where the
//! keys beside it are in higher layers; where a key between two subtrees went, both are entered,
//! until their edges no longer meet.
//!
//! A key occurs once in a tree, so entering a node twice is detected at its first key, and the
//! layer falls with each step down. The cost is therefore that of reading and writing each node
//! once.

use super::{MAX_WAITING_KEY_BYTES, Node, layer, read_node};
use crate::cid::{Cid, Codec};
use crate::limits::MAX_NODE_BYTES;
use crate::mst_builder::RootBuilder;
use std::cmp::Ordering;

/// A change to one key.
#[derive(Clone, Copy)]
pub(crate) struct Change<'k> {
    /// The key.
    pub(crate) key: &'k [u8],
    /// Its value after the commit.
    pub(crate) now: Option<Cid>,
    /// Its value before the commit.
    pub(crate) before: Option<Cid>,
}

/// Why changes cannot be taken back. Places are those of the changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InvertError {
    /// The tree does not have the key of this change.
    Absent(usize),
    /// The tree has the key of this change, which was deleted.
    Present(usize),
    /// The tree has another value under the key of this change.
    Other(usize, Cid),
    /// A node that is needed is not there.
    Missing(Cid),
    /// A node breaks a rule.
    Rule(Cid, &'static str),
}

/// A part of the tree that is still to do.
#[derive(Clone, Copy)]
enum Part {
    /// A subtree. `layer` is unknown for the root. If it is `settled`, no change is in it.
    Subtree {
        cid: Cid,
        layer: Option<u32>,
        settled: bool,
    },
    /// A key, the last one of [`Inversion::keys`], and its value.
    Leaf { value: Cid, layer: u32 },
    /// What was met before a subtree was entered late: the last one of [`Inversion::later`] is
    /// greater than the keys of that subtree.
    Resume,
}

/// A walk in progress.
struct Inversion<'c, G> {
    changes: &'c [Change<'c>],
    get: G,
    /// The next part is the last.
    todo: Vec<Part>,
    /// Keys of the leaves in `todo`, end to end, in the same order.
    keys: Vec<u8>,
    ends: Vec<usize>,
    /// The first change that was not met yet.
    next: usize,
    /// The last key that was met in the tree, if there was any.
    last: Vec<u8>,
    any: bool,
    /// Memory for the next one.
    key: Vec<u8>,
    /// Layer of the last key that was built.
    built: Option<u32>,
    /// A subtree after it, which is built once it is known that it can be carried over.
    pending: Option<(Cid, u32)>,
    /// If keys were met since then, which are left out of what is built: the last key before them.
    before_pending: Option<(Vec<u8>, bool)>,
    /// The keys of [`Part::Resume`].
    later: Vec<Vec<u8>>,
    builder: RootBuilder,
    node: Node,
}

/// The root of the tree before `changes`, which are sorted by key, each key once. `root` is the
/// root after them, and `get` has the nodes around them.
///
/// # Errors
/// See [`InvertError`].
pub(crate) fn previous_root<'a>(
    root: Cid,
    changes: &[Change<'_>],
    get: impl Fn(&Cid) -> Option<&'a [u8]>,
) -> Result<Cid, InvertError> {
    if changes.is_empty() {
        return Ok(root);
    }
    let mut inversion = Inversion {
        changes,
        get,
        todo: Vec::new(),
        keys: Vec::new(),
        ends: Vec::new(),
        next: 0,
        last: Vec::new(),
        any: false,
        key: Vec::new(),
        built: None,
        pending: None,
        before_pending: None,
        later: Vec::new(),
        builder: RootBuilder::default(),
        node: Node::default(),
    };
    inversion.enter(root, None, false)?;
    loop {
        match inversion.todo.last().copied() {
            Some(Part::Subtree {
                cid,
                layer: Some(layer),
                settled,
            }) => inversion.subtree(cid, layer, settled)?,
            Some(Part::Leaf { value, layer }) => inversion.leaf(value, layer)?,
            Some(Part::Resume) => inversion.resume(root)?,
            // Only the root has no layer, and it was entered.
            Some(Part::Subtree { layer: None, .. }) => _ = inversion.todo.pop(),
            None => {
                if inversion.finish()? {
                    return Ok(inversion.builder.root());
                }
            }
        }
    }
}

impl<'a, G: Fn(&Cid) -> Option<&'a [u8]>> Inversion<'_, G> {
    /// The key of the next leaf.
    fn next_key(&self) -> Option<&[u8]> {
        let (end, others) = self.ends.split_last()?;
        let start = others.last().copied().unwrap_or(0);
        self.keys.get(start..*end)
    }

    /// Replaces a subtree by its parts.
    fn enter(&mut self, cid: Cid, expected: Option<u32>, settled: bool) -> Result<(), InvertError> {
        let rule = |rule| InvertError::Rule(cid, rule);
        if cid.codec() != Codec::DagCbor {
            return Err(rule("its CID does not say DAG-CBOR"));
        }
        let block = (self.get)(&cid).ok_or(InvertError::Missing(cid))?;
        if block.len() > MAX_NODE_BYTES {
            return Err(rule("it is larger than a node may be"));
        }
        let found = read_node(block, expected, &mut self.node).map_err(rule)?;
        let node = &self.node;
        if self.keys.len().saturating_add(node.keys.len()) > MAX_WAITING_KEY_BYTES {
            return Err(rule("keys that unpack to more than 16 MiB"));
        }
        let Some(layer) = found else {
            return match node.left {
                None => Ok(()),
                Some(_) => Err(rule("a root with a subtree but no key")),
            };
        };
        if expected.is_some() && node.entries.is_empty() && node.left.is_none() {
            return Err(rule("an empty node below the root"));
        }
        let below = layer.checked_sub(1);
        let subtree = |todo: &mut Vec<Part>, cid: Option<Cid>| -> Result<(), InvertError> {
            if let Some(cid) = cid {
                below.ok_or(rule("a subtree below layer 0"))?;
                todo.push(Part::Subtree {
                    cid,
                    layer: below,
                    settled,
                });
            }
            Ok(())
        };
        for (at, entry) in node.entries.iter().enumerate().rev() {
            subtree(&mut self.todo, entry.right)?;
            self.keys.extend_from_slice(node.key(at));
            self.ends.push(self.keys.len());
            self.todo.push(Part::Leaf {
                value: entry.value,
                layer,
            });
        }
        subtree(&mut self.todo, node.left)
    }

    /// Enters the pending subtree after all. Keys may have been met since it was passed.
    fn enter_pending(&mut self, cid: Cid, layer: u32) -> Result<(), InvertError> {
        self.pending = None;
        if let Some((last, any)) = self.before_pending.take() {
            self.later.push(std::mem::replace(&mut self.last, last));
            self.any = any;
            self.todo.push(Part::Resume);
        }
        self.enter(cid, Some(layer), true)
    }

    /// Goes on after a subtree that was entered late.
    fn resume(&mut self, root: Cid) -> Result<(), InvertError> {
        self.todo.pop();
        let key = self.later.pop().unwrap_or_default();
        if self.any && key <= self.last {
            return Err(InvertError::Rule(root, "keys out of order"));
        }
        self.met(key);
        Ok(())
    }

    /// Notes the last key that was met. Returns the memory of the one before.
    fn met(&mut self, key: Vec<u8>) -> Vec<u8> {
        let before = std::mem::replace(&mut self.last, key);
        if self.pending.is_some() && self.before_pending.is_none() {
            self.before_pending = Some((before.clone(), self.any));
        }
        self.any = true;
        before
    }

    /// Carries the next part over, a subtree, or enters it.
    fn subtree(&mut self, cid: Cid, layer: u32, settled: bool) -> Result<(), InvertError> {
        let change = self.changes.get(self.next).filter(|_| !settled);
        let touched = change
            .is_some_and(|change| self.next_key().is_none_or(|next_key| change.key < next_key));
        let meets_key = self.built.is_some_and(|of_key| of_key <= layer);
        match self.pending {
            Some((before, of_before)) if !touched && of_before >= layer => {
                self.enter_pending(before, of_before)
            }
            None if !touched && !meets_key => {
                self.todo.pop();
                self.pending = Some((cid, layer));
                self.before_pending = None;
                Ok(())
            }
            _ => {
                self.todo.pop();
                self.enter(cid, Some(layer), settled || !touched)
            }
        }
    }

    /// Builds a key. False if the subtree before it had to be entered first.
    fn build(&mut self, key: &[u8], value: Cid, layer: u32) -> Result<bool, InvertError> {
        match self.pending {
            Some((before, of_before)) if layer <= of_before => {
                self.enter_pending(before, of_before)?;
                return Ok(false);
            }
            Some((before, of_before)) => self.builder.add_subtree(before, of_before),
            None => {}
        }
        self.pending = None;
        self.before_pending = None;
        self.builder.add_in_layer(key, value, layer);
        self.built = Some(layer);
        Ok(true)
    }

    /// Builds the key of a change that was deleted.
    fn restore(&mut self, at: usize) -> Result<(), InvertError> {
        let Some(change) = self.changes.get(at).copied() else {
            return Ok(());
        };
        match change {
            Change {
                key,
                now: None,
                before: Some(before),
            } => {
                if self.build(key, before, layer(key))? {
                    self.next = at.saturating_add(1);
                }
                Ok(())
            }
            _ => Err(InvertError::Absent(at)),
        }
    }

    /// Builds the next part, a key, as it was before the changes.
    fn leaf(&mut self, value: Cid, layer: u32) -> Result<(), InvertError> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        key.extend_from_slice(self.next_key().unwrap_or_default());
        let outcome = self.leaf_under(&key, value, layer);
        if outcome == Ok(true) {
            self.todo.pop();
            self.ends.pop();
            self.keys.truncate(self.ends.last().copied().unwrap_or(0));
            // What was the last key is the memory of the next one.
            key = self.met(key);
        }
        self.key = key;
        outcome.map(|_| ())
    }

    /// As [`Self::leaf`], for a key that is known. False if something else comes before it.
    fn leaf_under(&mut self, key: &[u8], value: Cid, layer: u32) -> Result<bool, InvertError> {
        if self.any && key <= self.last.as_slice() {
            return Err(InvertError::Rule(value, "keys out of order"));
        }
        let at = self.next;
        let Some(change) = self.changes.get(at).copied() else {
            return self.build(key, value, layer);
        };
        match change.key.cmp(key) {
            Ordering::Less => self.restore(at).map(|()| false),
            Ordering::Greater => self.build(key, value, layer),
            Ordering::Equal => {
                match change.now {
                    None => return Err(InvertError::Present(at)),
                    Some(now) if now != value => return Err(InvertError::Other(at, value)),
                    Some(_) => {}
                }
                let done = match change.before {
                    Some(before) => self.build(key, before, layer)?,
                    None => true,
                };
                if done {
                    self.next = at.saturating_add(1);
                }
                Ok(done)
            }
        }
    }

    /// Ends the walk. False if there is more to do.
    fn finish(&mut self) -> Result<bool, InvertError> {
        if self.next < self.changes.len() {
            self.restore(self.next)?;
            return Ok(false);
        }
        if let Some((cid, layer)) = self.pending {
            // A subtree alone is the whole tree, if its node has keys. Where that is not shown,
            // it is believed: the root that comes out is compared in any case.
            if self.built.is_none() && (self.get)(&cid).is_some() {
                self.enter_pending(cid, layer)?;
                return Ok(false);
            }
            self.builder.add_subtree(cid, layer);
        }
        Ok(true)
    }
}
