//! The accounts of an archive in the order in which their newest CARs lie in it.
//!
//! Who reads in this order reads each segment of an object store once from its start to its end.
//! The indexes are read a second time for that.

use crate::error::ArchiveError;
use crate::line::Line;
use crate::read::{Archive, open_indexes};
use crate::source::Lines;
use std::io::Read;

/// Where reading in order is.
#[derive(Default)]
pub struct InOrder {
    /// The index that is being read, and the number of the next one.
    index: Option<Lines<Box<dyn Read + Send>>>,
    next: usize,
}

impl Archive {
    /// The next accounts in the order of the archive, at most so many; none at the end. Plain CARs
    /// are not among them. What cannot be read any more is left out.
    ///
    /// # Errors
    /// The spool cannot be read.
    pub fn in_order(&self, at: &mut InOrder, count: usize) -> Result<Vec<String>, ArchiveError> {
        let mut dids = Vec::new();
        while dids.len() < count {
            let Some(index) = &mut at.index else {
                let Some(name) = self.indexes().get(at.next) else {
                    break;
                };
                at.next = at.next.saturating_add(1);
                let name = std::slice::from_ref(name);
                let opened = open_indexes(self.source(), name).into_iter().next();
                at.index = opened.and_then(Result::ok).map(Lines::new);
                continue;
            };
            let Ok(Some(line)) = index.next() else {
                at.index = None;
                continue;
            };
            if let Some(line) = Line::read(line)
                && self.is_newest(&line)?
            {
                dids.push(line.did);
            }
        }
        Ok(dids)
    }
}
