//! Computes the root of the tree over sorted keys without storing them: nodes are closed from the
//! lowest layer up as keys arrive (<https://atproto.com/specs/repository#mst-structure>).

use crate::cbor::Writer;
use crate::cid::{Cid, Codec};
use crate::mst::layer;

/// A node that may still get entries.
#[derive(Default)]
struct OpenNode {
    left: Option<Cid>,
    count: u64,
    /// All entries but the last, as DAG-CBOR.
    entries: Writer,
    /// The last entry: length shared with the previous key, rest of its key, its value, the subtree
    /// after it.
    last: Option<(usize, Vec<u8>, Cid, Option<Cid>)>,
    last_key: Vec<u8>,
}

impl OpenNode {
    fn is_empty(&self) -> bool {
        self.left.is_none() && self.last.is_none()
    }

    /// Adds a subtree after all entries so far.
    fn attach(&mut self, cid: Cid) {
        match &mut self.last {
            Some((.., right)) => *right = Some(cid),
            None => self.left = Some(cid),
        }
    }

    fn push(&mut self, key: &[u8], value: Cid) {
        self.write_last();
        let shared = key
            .iter()
            .zip(&self.last_key)
            .take_while(|(a, b)| a == b)
            .count();
        let rest = key.get(shared..).unwrap_or_default().to_vec();
        self.last = Some((shared, rest, value, None));
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.count = self.count.saturating_add(1);
    }

    fn write_last(&mut self) {
        let Some((shared, rest, value, right)) = self.last.take() else {
            return;
        };
        let w = self.entries.map(4).text("k").bytes(&rest).text("p");
        w.unsigned(u64::try_from(shared).unwrap_or(u64::MAX))
            .text("t");
        link_or_null(w, right).text("v").cid(&value);
    }

    /// Returns its CID and empties it.
    fn close(&mut self) -> Cid {
        self.write_last();
        let node = std::mem::take(self);
        let mut w = Writer::new();
        w.map(2)
            .text("e")
            .list(node.count)
            .raw(node.entries.as_bytes())
            .text("l");
        link_or_null(&mut w, node.left);
        Cid::of(Codec::DagCbor, w.as_bytes())
    }
}

fn link_or_null(w: &mut Writer, cid: Option<Cid>) -> &mut Writer {
    match cid {
        Some(cid) => w.cid(&cid),
        None => w.null(),
    }
}

/// Computes the root of a tree from its sorted keys and values. One open node per layer is kept.
#[derive(Default)]
pub struct RootBuilder {
    /// The open nodes, by layer.
    open: Vec<OpenNode>,
    last: Option<Vec<u8>>,
}

impl RootBuilder {
    /// Adds a key, which must be greater than all previous ones. Otherwise returns false and leaves
    /// it out.
    pub fn add(&mut self, key: &[u8], value: Cid) -> bool {
        if self
            .last
            .as_ref()
            .is_some_and(|last| key <= last.as_slice())
        {
            return false;
        }
        self.add_in_layer(key, value, layer(key));
        true
    }

    /// Adds a key that is greater than all previous ones, and whose layer is known.
    pub(crate) fn add_in_layer(&mut self, key: &[u8], value: Cid, layer: u32) {
        let layer = self.open_up_to(layer);
        if let Some(node) = self.open.get_mut(layer) {
            node.push(key, value);
        }
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
    }

    /// Adds a whole subtree, whose node is in `layer`, after all that was added. Keys beside it
    /// must be in higher layers, and there must be one between two subtrees.
    pub(crate) fn add_subtree(&mut self, cid: Cid, layer: u32) {
        let above = self.open_up_to(layer.saturating_add(1));
        if let Some(node) = self.open.get_mut(above) {
            node.attach(cid);
        }
    }

    /// Closes what is below `layer`, so that the next entry goes there.
    fn open_up_to(&mut self, layer: u32) -> usize {
        let layer = usize::try_from(layer).unwrap_or(usize::MAX).min(128);
        while self.open.len() <= layer {
            self.open.push(OpenNode::default());
        }
        self.close_below(layer);
        layer
    }

    /// Closes all nodes below `layer`; each becomes a subtree of the node above.
    fn close_below(&mut self, layer: usize) {
        for at in 0..layer {
            let Some(node) = self.open.get_mut(at) else {
                return;
            };
            if node.is_empty() {
                continue;
            }
            let cid = node.close();
            if let Some(above) = self.open.get_mut(at.saturating_add(1)) {
                above.attach(cid);
            }
        }
    }

    /// The root of the tree.
    #[must_use]
    pub fn root(mut self) -> Cid {
        let top = self
            .open
            .iter()
            .rposition(|node| !node.is_empty())
            .unwrap_or(0);
        self.close_below(top);
        match self.open.get_mut(top) {
            // A root has keys, so a subtree alone is the tree.
            Some(OpenNode {
                left: Some(left),
                last: None,
                ..
            }) => *left,
            Some(node) => node.close(),
            None => OpenNode::default().close(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RootBuilder;
    use crate::{Cid, Codec};

    #[test]
    fn an_empty_tree_and_keys_out_of_order() {
        // The root of an empty repo, as every implementation has it.
        assert_eq!(
            RootBuilder::default().root().to_string(),
            "bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm"
        );
        let value = Cid::of(Codec::DagCbor, b"x");
        let mut builder = RootBuilder::default();
        assert!(builder.add(b"a/2", value));
        assert!(!builder.add(b"a/2", value));
        assert!(!builder.add(b"a/1", value));
        assert!(builder.add(b"a/3", value));
    }
}
