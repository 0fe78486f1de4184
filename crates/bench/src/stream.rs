//! The records of the benchmark, as lines and as prepared COPY buffers.

use consumer::lines::Batch;
use handoff::line::Message;
use rows::Collection;
use simnet::Population;
use std::collections::BTreeMap;

/// Records a prepared buffer.
const BUFFER_RECORDS: usize = 20_000;

/// The same records in both forms.
pub(crate) struct Stream {
    /// For the consumer.
    pub(crate) lines: Vec<u8>,
    /// For the bare side.
    pub(crate) batches: Vec<Batch>,
    /// Records of indexed collections.
    pub(crate) indexed: u64,
    /// Rows by table.
    pub(crate) rows: Vec<(usize, u64)>,
}

/// About `records` records of 2,000 repos, repo after repo.
pub(crate) fn generate(records: usize) -> Stream {
    let population = Population::new(1, 2000, records);
    let mut lines = Vec::new();
    for account in 0..population.len() {
        simnet::append_lines(&population, account, &mut lines);
    }
    let mut open: BTreeMap<Collection, Batch> = BTreeMap::new();
    let mut batches = Vec::new();
    let mut rows: BTreeMap<usize, u64> = BTreeMap::new();
    let mut indexed = 0;
    for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let message = Message::parse(line).expect("a message");
        let Some(record) = message.record() else {
            continue;
        };
        let batch = open
            .entry(record.collection)
            .or_insert_with(|| Batch::new(record.collection));
        assert!(batch.add(&record).expect("a good record"), "a URI twice");
        rows::index(
            &record,
            &mut rows::Rows::new(&mut |table, _| *rows.entry(table.id).or_default() += 1),
        )
        .expect("rows");
        indexed += 1;
        if batch.records() >= BUFFER_RECORDS {
            batches.extend(open.remove(&record.collection));
        }
    }
    batches.extend(open.into_values());
    Stream {
        lines,
        batches,
        indexed,
        rows: rows.into_iter().collect(),
    }
}
