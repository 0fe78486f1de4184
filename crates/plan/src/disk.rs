//! The disk of a load: tables, indexes, what sorting takes beside them, and WAL.

use crate::costs::{Costs, to_float};
use crate::inputs::{Inputs, Sizes};
use crate::phase::Phase;

/// The table of notifications.
const NOTIFICATION: &str = "notification";

/// How large a table becomes.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSize {
    /// Its name.
    pub name: String,
    /// Its rows.
    pub rows: f64,
    /// Bytes of its heap.
    pub heap: f64,
    /// Bytes of all of its indexes.
    pub indexes: f64,
}

impl TableSize {
    /// All of its bytes.
    #[must_use]
    pub fn bytes(&self) -> f64 {
        self.heap + self.indexes
    }
}

/// Bytes of so large a heap that a load leaves to be frozen, at most.
#[must_use]
pub fn unfrozen(heap: f64, sizes: &Sizes) -> f64 {
    let part = heap / to_float(sizes.freeze_part.max(1));
    heap.min(to_float(sizes.freeze_step).max(part))
}

/// The disk of a load, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    /// Tables, the largest first.
    pub tables: Vec<TableSize>,
    /// More than the finished indexes, at most, while they are built.
    pub sorting: f64,
    /// All WAL that is written, by phase.
    pub wal: Vec<(Phase, f64)>,
    /// WAL that lies on the disk at once.
    pub wal_kept: f64,
}

impl Disk {
    pub(crate) fn of(costs: &Costs, inputs: &Inputs, phases: &[Phase]) -> Self {
        let records = to_float(inputs.work.records);
        let is_stored = |name: &str| inputs.choice.notifies || name != NOTIFICATION;
        let tables = costs.tables.iter().filter(|table| is_stored(&table.name));
        let mut tables: Vec<TableSize> = tables
            .map(|table| TableSize {
                name: table.name.clone(),
                rows: table.rows * records,
                heap: table.heap_of(records),
                indexes: costs
                    .indexes_of(&table.name)
                    .map(|index| index.bytes_of(records))
                    .sum(),
            })
            .collect();
        tables.sort_by(|a, b| b.bytes().total_cmp(&a.bytes()));
        let indexes = costs.indexes.iter().filter(|index| is_stored(&index.table));
        let indexes = indexes.map(|index| index.bytes_of(records)).collect();
        let wal: Vec<(Phase, f64)> = phases
            .iter()
            .filter_map(|phase| Some((*phase, costs.phase(*phase)?.wal * records)))
            .collect();
        let all_wal: f64 = wal.iter().map(|(_, bytes)| bytes).sum();
        Self {
            tables,
            sorting: sorting(indexes, inputs.sizes.builds, inputs.sizes.build_memory),
            wal,
            wal_kept: all_wal.min(to_float(inputs.sizes.max_wal)),
        }
    }

    /// Rows of all tables.
    #[must_use]
    pub fn rows(&self) -> f64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// Bytes of all heaps.
    #[must_use]
    pub fn heap(&self) -> f64 {
        self.tables.iter().map(|table| table.heap).sum()
    }

    /// Bytes of all heaps that a load leaves to be frozen, at most.
    #[must_use]
    pub fn unfrozen(&self, sizes: &Sizes) -> f64 {
        let tables = self.tables.iter();
        tables.map(|table| unfrozen(table.heap, sizes)).sum()
    }

    /// Bytes of all indexes.
    #[must_use]
    pub fn indexes(&self) -> f64 {
        self.tables.iter().map(|table| table.indexes).sum()
    }

    /// What the database has at the end.
    #[must_use]
    pub fn at_the_end(&self) -> f64 {
        self.heap() + self.indexes()
    }

    /// The most that lies on the disk at once.
    #[must_use]
    pub fn at_once(&self) -> f64 {
        self.at_the_end() + self.sorting + self.wal_kept
    }

    /// All WAL that is written.
    #[must_use]
    pub fn all_wal(&self) -> f64 {
        self.wal.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// What builds have on the disk beyond the finished indexes, at most: so many run at once, the
/// large ones first, and each has its sorted tuples beside the index that it writes from them. What
/// fits into the memory of the builds is not written.
fn sorting(mut indexes: Vec<f64>, builds: usize, memory: u64) -> f64 {
    indexes.sort_by(|a, b| b.total_cmp(a));
    let of_build = to_float(memory) / to_float(builds.max(1) as u64);
    let mut to_come: f64 = indexes.iter().sum();
    let mut most = 0f64;
    for batch in indexes.chunks(builds.max(1)) {
        to_come -= batch.iter().sum::<f64>();
        let sorted: f64 = batch.iter().filter(|bytes| **bytes > of_build).sum();
        most = most.max(sorted - to_come);
    }
    most
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;

    #[test]
    fn sorting_takes_what_the_finished_indexes_do_not_take_yet() {
        // One at a time: while the last one is built, all others are there.
        assert_eq!(sorting(vec![5.0, 9.0, 7.0], 1, 0), 5.0);
        // All at once: as much again.
        assert_eq!(sorting(vec![5.0, 9.0, 7.0], 3, 0), 21.0);
        // The first two are sorted while the third one is not there yet; the last one alone.
        assert_eq!(sorting(vec![5.0, 9.0, 7.0], 2, 0), 11.0);
        // Those that fit into the memory of a build are not written.
        assert_eq!(sorting(vec![5.0, 9.0, 7.0], 3, 21), 9.0);
        assert_eq!(sorting(vec![], 0, 0), 0.0);
    }
}
