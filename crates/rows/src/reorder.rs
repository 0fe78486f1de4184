//! Reorders parts of what was written, in one pass at the end.
//!
//! A value is written as it is read, from front to back. Some parts belong elsewhere: JavaScript
//! moves some keys to the front; DAG-CBOR sorts keys, and begins with a number of entries that is
//! known only at the end. Instead of moving bytes at once, a [`Region`] is recorded. Regions can be
//! nested a hundred deep, and the innermost bytes would be moved once per level.

use std::ops::Range;

/// A part of the output whose pieces belong in another order.
pub(crate) struct Region {
    /// Where it begins. One byte is its own; what is inside begins after it.
    pub(crate) start: usize,
    /// What belongs at its front, instead of the byte that was written there.
    pub(crate) head: Vec<u8>,
    /// Where it ends: after the piece that was written last.
    pub(crate) end: usize,
    /// Its pieces in the right order.
    pub(crate) pieces: Vec<Range<usize>>,
}

/// Passes `written` to `out` piece by piece, with `separator` between the pieces of a region. Each
/// byte is passed once.
pub(crate) fn in_order(
    written: &[u8],
    mut regions: Vec<Region>,
    separator: &[u8],
    mut out: impl FnMut(&[u8]),
) {
    regions.sort_unstable_by_key(|region| region.start);
    // What is still to be handed over, the last first, and whether a separator goes before it.
    let mut todo = vec![(0..written.len(), false)];
    while let Some((range, is_separated)) = todo.pop() {
        if is_separated {
            out(separator);
        }
        let next = regions.partition_point(|region| region.start < range.start);
        let Some(region) = regions.get(next).filter(|region| region.start < range.end) else {
            out(written.get(range).unwrap_or_default());
            continue;
        };
        out(written.get(range.start..region.start).unwrap_or_default());
        out(&region.head);
        todo.push((region.end..range.end, false));
        let pieces = region.pieces.iter().enumerate().rev();
        todo.extend(pieces.map(|(at, piece)| (piece.clone(), at > 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::{Region, in_order};

    #[test]
    fn regions_inside_regions_come_out_in_order() {
        let region = |start, end, pieces: &[(usize, usize)]| Region {
            start,
            head: b"<".to_vec(),
            end,
            pieces: pieces.iter().map(|(from, to)| *from..*to).collect(),
        };
        // The inner one is noted first, as it ends first.
        let written = b"x[a,[1,2],c]y";
        let regions = vec![
            region(4, 8, &[(7, 8), (5, 6)]),
            region(1, 11, &[(10, 11), (4, 9), (2, 3)]),
        ];
        let mut out = Vec::new();
        in_order(written, regions, b",", |part| out.extend_from_slice(part));
        assert_eq!(String::from_utf8(out).unwrap(), "x<c,<2,1],a]y");
    }
}
