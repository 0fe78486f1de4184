//! Writes DAG-CBOR for which the number of entries and the order of keys are known only after the
//! entries were written.

use crate::reorder::{Region, in_order};
use atrepo::cbor::{Item, Writer};
use std::iter;
use std::ops::Range;

/// A list or a map.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    List,
    Map,
}

/// A value that is being written.
#[derive(Default)]
pub(crate) struct Builder {
    /// Entries in the order in which they arrived; heads of lists and maps as if they had fewer
    /// than 24 entries.
    written: Writer,
    /// Lists and maps that are not yet in their final form.
    regions: Vec<Region>,
}

impl Builder {
    /// The writer for scalars and complete values.
    pub(crate) fn writer(&mut self) -> &mut Writer {
        &mut self.written
    }

    /// The position of the next byte.
    pub(crate) fn at(&self) -> usize {
        self.written.len()
    }

    /// The item that was written at `at`. A list or map with many items is not complete yet.
    pub(crate) fn item_at(&self, at: usize) -> Item<'_> {
        self.written.item_at(at)
    }

    /// Begins a list or map; returns its position.
    pub(crate) fn begin(&mut self, kind: Kind) -> usize {
        let at = self.at();
        match kind {
            Kind::List => self.written.list(0),
            Kind::Map => self.written.map(0),
        };
        at
    }

    /// Ends the list or map that began at `at`. It has `count` items or entries, in the order in
    /// which they were written unless `order` gives their positions.
    pub(crate) fn end(
        &mut self,
        kind: Kind,
        at: usize,
        count: u64,
        order: Option<Vec<Range<usize>>>,
    ) {
        if self.written.set_count(at, count) && order.is_none() {
            return;
        }
        let mut head = Writer::new();
        match kind {
            Kind::List => head.list(count),
            Kind::Map => head.map(count),
        };
        let end = self.at();
        let all = at.saturating_add(1)..end;
        self.regions.push(Region {
            start: at,
            head: head.into_bytes(),
            end,
            pieces: order.unwrap_or_else(|| iter::once(all).collect()),
        });
    }

    /// Removes what was written at `at` and after it.
    pub(crate) fn truncate(&mut self, at: usize) {
        self.written.truncate(at);
        // Regions are recorded when they end, so those inside are the last ones.
        while self.regions.pop_if(|region| region.start >= at).is_some() {}
    }

    /// The value.
    pub(crate) fn finish(self) -> Writer {
        if self.regions.is_empty() {
            return self.written;
        }
        let mut out = Writer::new();
        in_order(self.written.as_bytes(), self.regions, b"", |part| {
            out.raw(part);
        });
        out
    }
}
