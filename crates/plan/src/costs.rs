//! The table of costs: what a record costs in each phase, table and index.
//!
//! `bench costs` measures it with whole runs over generated networks and writes the file; the
//! program reads the same file.

use crate::phase::Phase;
use std::fmt::Write;

/// The table that the program carries.
const COMMITTED: &str = include_str!("../costs.tsv");

/// Bytes of a table with any row, beside those in proportion to its rows: a page that is not full,
/// the map of free space (three pages) and the map of visibility (one).
const TABLE_BYTES: f64 = 5.0 * 8192.0;
/// Bytes of an index with any row, beside those in proportion: its first page and one leaf.
const INDEX_BYTES: f64 = 2.0 * 8192.0;
const MIB: f64 = 1024.0 * 1024.0;

/// How a cost grows with the number of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// In proportion to the records.
    Linear,
    /// As a sort does: n log2 n.
    Sorting,
    /// In proportion to what a load leaves to be frozen, in MiB.
    Freezing,
}

impl Growth {
    /// The units of cost of so many records, if their load leaves so many bytes to be frozen.
    #[must_use]
    pub fn units(self, records: f64, unfrozen: f64) -> f64 {
        match self {
            Self::Linear => records,
            Self::Sorting => records * records.max(2.0).log2(),
            Self::Freezing => unfrozen / MIB,
        }
    }

    /// Its word in the table.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Linear => "n",
            Self::Sorting => "n log2 n",
            Self::Freezing => "MiB to freeze",
        }
    }
}

/// What a phase costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PhaseCost {
    /// The phase.
    pub phase: Phase,
    /// How its CPU time grows.
    pub growth: Growth,
    /// CPU of skyfill per unit, in microseconds.
    pub client: f64,
    /// CPU of PostgreSQL per unit, in microseconds.
    pub server: f64,
    /// The share of the cores' time that it used, from 0 to 1.
    pub busy: f64,
    /// Bytes of WAL per record.
    pub wal: f64,
    /// Pages per record that came from outside the server's buffers.
    pub reads: f64,
    /// Pages per record that were looked at.
    pub looks: f64,
}

/// What a table costs.
#[derive(Clone, Debug, PartialEq)]
pub struct TableCost {
    /// Its name.
    pub name: String,
    /// Rows per record.
    pub rows: f64,
    /// Bytes of its heap per record, with long values that lie outside of it.
    pub heap: f64,
}

/// What an index costs.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexCost {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Its bytes per record.
    pub bytes: f64,
}

impl TableCost {
    /// Bytes of its heap with so many records.
    #[must_use]
    pub fn heap_of(&self, records: f64) -> f64 {
        of(self.heap, TABLE_BYTES, records)
    }

    /// The bytes per record, where it has so many bytes at so many records.
    #[must_use]
    pub fn per_record(measured: &[(f64, f64)]) -> f64 {
        per_record(measured, TABLE_BYTES)
    }
}

impl IndexCost {
    /// Its bytes with so many records.
    #[must_use]
    pub fn bytes_of(&self, records: f64) -> f64 {
        of(self.bytes, INDEX_BYTES, records)
    }

    /// The bytes per record, where it has so many bytes at so many records.
    #[must_use]
    pub fn per_record(measured: &[(f64, f64)]) -> f64 {
        per_record(measured, INDEX_BYTES)
    }
}

fn of(per_record: f64, fixed: f64, records: f64) -> f64 {
    match per_record > 0.0 {
        true => per_record * records + fixed,
        false => 0.0,
    }
}

/// The best line through the fixed bytes, by least squares.
fn per_record(measured: &[(f64, f64)], fixed: f64) -> f64 {
    let above = |bytes: f64| (bytes - fixed).max(0.0);
    let products: f64 = measured.iter().map(|(n, bytes)| n * above(*bytes)).sum();
    let squares: f64 = measured.iter().map(|(n, _)| n * n).sum();
    match squares > 0.0 {
        true => products / squares,
        false => 0.0,
    }
}

/// All costs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Costs {
    /// Where, when and with what they were measured: name and value.
    pub about: Vec<(String, String)>,
    /// What each phase costs.
    pub phases: Vec<PhaseCost>,
    /// What each table costs.
    pub tables: Vec<TableCost>,
    /// What each index costs.
    pub indexes: Vec<IndexCost>,
}

impl Costs {
    /// Those that the program carries.
    ///
    /// # Panics
    /// The file is no table of costs. A test reads it.
    #[must_use]
    #[allow(clippy::expect_used, reason = "a part of the program; a test reads it")]
    pub fn committed() -> Self {
        Self::parse(COMMITTED).expect("costs.tsv")
    }

    /// A value of what is said about them.
    #[must_use]
    pub fn said(&self, name: &str) -> &str {
        let found = self.about.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// What a phase costs, if it was measured.
    #[must_use]
    pub fn phase(&self, phase: Phase) -> Option<&PhaseCost> {
        self.phases.iter().find(|cost| cost.phase == phase)
    }

    /// Indexes of a table.
    pub fn indexes_of<'c>(&'c self, table: &'c str) -> impl Iterator<Item = &'c IndexCost> {
        self.indexes
            .iter()
            .filter(move |index| index.table == table)
    }

    /// Reads a table.
    ///
    /// # Errors
    /// The line that is none of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut costs = Self::default();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let fields: Vec<&str> = line.split('\t').collect();
            costs
                .read(&fields)
                .ok_or_else(|| format!("not a line of costs: {line}"))?;
        }
        Ok(costs)
    }

    fn read(&mut self, fields: &[&str]) -> Option<()> {
        match fields {
            ["about", name, value] => self.about.push(((*name).to_owned(), (*value).to_owned())),
            ["phase", name, growth, numbers @ ..] => {
                let numbers = all(numbers)?;
                let &[client, server, busy, wal, reads, looks] = numbers.as_slice() else {
                    return None;
                };
                let growths = [Growth::Linear, Growth::Sorting, Growth::Freezing];
                self.phases.push(PhaseCost {
                    phase: Phase::ALL.into_iter().find(|phase| phase.word() == *name)?,
                    growth: growths.into_iter().find(|known| known.word() == *growth)?,
                    client,
                    server,
                    busy: (busy > 0.0 && busy <= 1.0).then_some(busy)?,
                    wal,
                    reads,
                    looks,
                });
            }
            ["table", name, rows, heap] => self.tables.push(TableCost {
                name: (*name).to_owned(),
                rows: number(rows)?,
                heap: number(heap)?,
            }),
            ["index", table, name, bytes] => self.indexes.push(IndexCost {
                table: (*table).to_owned(),
                name: (*name).to_owned(),
                bytes: number(bytes)?,
            }),
            _ => return None,
        }
        Some(())
    }

    /// The table as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = "# What a record costs, as `bench costs` measured it; `skyfill plan` reads this file.\n".to_owned();
        for (name, value) in &self.about {
            let _ = writeln!(text, "about\t{name}\t{value}");
        }
        text.push_str("# phase, growth of its CPU; per unit: microseconds of skyfill, of PostgreSQL; share of the cores' time used;\n");
        text.push_str(
            "# per record: bytes of WAL, pages from outside the buffers, pages looked at\n",
        );
        for cost in &self.phases {
            let _ = writeln!(
                text,
                "phase\t{}\t{}\t{:.4}\t{:.4}\t{:.2}\t{:.1}\t{:.4}\t{:.3}",
                cost.phase.word(),
                cost.growth.word(),
                cost.client,
                cost.server,
                cost.busy,
                cost.wal,
                cost.reads,
                cost.looks
            );
        }
        text.push_str("# table; per record: rows, bytes of heap\n");
        for table in &self.tables {
            let _ = writeln!(
                text,
                "table\t{}\t{:.6}\t{:.4}",
                table.name, table.rows, table.heap
            );
        }
        text.push_str("# table, index; bytes per record\n");
        for index in &self.indexes {
            let _ = writeln!(
                text,
                "index\t{}\t{}\t{:.4}",
                index.table, index.name, index.bytes
            );
        }
        text
    }
}

fn all(texts: &[&str]) -> Option<Vec<f64>> {
    texts.iter().map(|text| number(text)).collect()
}

fn number(text: &str) -> Option<f64> {
    let number: f64 = text.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// Close enough.
#[allow(clippy::cast_precision_loss, reason = "for estimates")]
pub(crate) fn to_float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    #[test]
    fn the_committed_table_is_whole_and_says_where_it_is_from() {
        let costs = Costs::committed();
        for name in ["date", "commit", "machine", "server", "records", "beside"] {
            assert!(!costs.said(name).is_empty(), "{name}");
        }
        let measured = Phase::ALL
            .into_iter()
            .filter(|phase| *phase != Phase::Identities);
        for phase in measured {
            let cost = costs.phase(phase).unwrap_or_else(|| panic!("{phase:?}"));
            assert!(cost.server > 0.0, "{cost:?}");
        }
        let record = costs.tables.iter().find(|table| table.name == "record");
        let record = record.unwrap();
        assert!((record.rows - 1.0).abs() < 0.01, "{record:?}");
        assert!(costs.indexes_of("record").count() > 0);
        for index in &costs.indexes {
            let mut tables = costs.tables.iter();
            assert!(tables.any(|table| table.name == index.table), "{index:?}");
        }
        // As the design has it: some 1,205 bytes of heap and 848 of index.
        let heap: f64 = costs.tables.iter().map(|table| table.heap).sum();
        let index: f64 = costs.indexes.iter().map(|index| index.bytes).sum();
        assert!((800.0..2000.0).contains(&heap), "{heap}");
        assert!((500.0..1500.0).contains(&index), "{index}");
    }

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_refused() {
        let costs = Costs::committed();
        assert_eq!(Costs::parse(&costs.to_text()).unwrap(), costs);
        for line in [
            "phase\tload\tn\t1\t1\t0\t1\t1\t1",
            "phase\tload\tn\t1\t1\t1\t1\t1",
            "phase\tlunch\tn\t1\t1\t1\t1\t1\t1",
            "phase\tload\tn!\t1\t1\t1\t1\t1\t1",
            "table\trecord\t1\tNaN",
            "table\trecord\t1\t-1",
            "index\trecord\tname",
            "nothing",
        ] {
            assert!(Costs::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn sizes_have_a_part_that_does_not_grow() {
        let at = |n: f64| (n, 100.0 * n + TABLE_BYTES);
        let heap = TableCost::per_record(&[at(1000.0), at(3000.0), at(9000.0)]);
        assert!((heap - 100.0).abs() < 1e-9, "{heap}");
        let table = TableCost {
            name: "post".to_owned(),
            rows: 1.0,
            heap,
        };
        assert!((table.heap_of(50.0) - (5000.0 + TABLE_BYTES)).abs() < 1e-6);
        // An empty table has no pages.
        assert_eq!(IndexCost::per_record(&[(1000.0, 8192.0)]), 0.0);
        assert_eq!(of(0.0, INDEX_BYTES, 1e9), 0.0);
        assert_eq!(TableCost::per_record(&[]), 0.0);
    }

    #[test]
    fn a_sort_costs_more_than_its_share() {
        assert_eq!(Growth::Linear.units(1024.0, 0.0), 1024.0);
        assert_eq!(Growth::Sorting.units(1024.0, 0.0), 10_240.0);
        assert_eq!(Growth::Sorting.units(0.0, 0.0), 0.0);
        assert_eq!(Growth::Freezing.units(1e9, 3.0 * MIB), 3.0);
    }
}
