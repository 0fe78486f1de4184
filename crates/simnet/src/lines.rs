//! A population's records as messages in the line form.

use crate::Population;
use atrepo::{Cid, Codec, cbor};
use handoff::line::{self, Outgoing};
use std::io::{self, BufWriter, Write};

/// Writes the records of all accounts, repo after repo.
///
/// # Errors
/// `out` cannot be written to.
pub fn write_lines(population: &Population, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    let mut lines = Vec::new();
    for account in 0..population.len() {
        lines.clear();
        append_lines(population, account, &mut lines);
        out.write_all(&lines)?;
    }
    out.flush()
}

/// Appends the records of account `account`, in the order of a repo.
///
/// # Panics
/// The generator made a record that cannot be read: its own mistake.
pub fn append_lines(population: &Population, account: usize, out: &mut Vec<u8>) {
    let did = population.did(account);
    let mut records = population.records(account);
    records.sort();
    for (key, bytes) in records {
        let value = cbor::check(&bytes)
            .ok()
            .and_then(|item| item.as_map())
            .expect("generated records are maps");
        let (collection, rkey) = key.split_once('/').expect("generated keys have two parts");
        let cid = Cid::of(Codec::DagCbor, &bytes);
        let record = Outgoing {
            did: &did,
            collection,
            rkey,
            cid,
            value,
            now: i64::MAX,
        };
        line::append(out, &record).expect("generated records have a JSON form");
    }
}
