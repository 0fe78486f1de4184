//! Puts the changes of a list of skipped records ([`crate::skipped`]) into the list when they are
//! many, so that following a repo keeps few of them, whatever it commits.
//!
//! The whole list is written again. A list may have changes for a quarter of its entries and a
//! thousand more, so an entry is written again some four times; of the longest lists, memory holds
//! 50,000 changes and a piece.

use crate::skipped::{self, Change, ListWriter, Skipped};
use postgres::{Error, GenericClient, Transaction};
use std::collections::VecDeque;

/// So many changes a list may have beside a quarter of its entries.
const FEW: i64 = 1000;
/// No list has more, about.
const MOST: i64 = 50_000;

/// Puts changes into the lists of those of these accounts that have many; how many there were.
/// Their repos are locked.
///
/// # Errors
/// The server refused.
pub fn fold_long(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<u64, Error> {
    if dids.is_empty() {
        return Ok(0);
    }
    let rows = client.query(
        "SELECT r.did FROM unnest($2::text[]) n (did)
           CROSS JOIN LATERAL (
             SELECT did, skipped FROM skyfill.repo r WHERE r.schema_name = $1 AND r.did = n.did OFFSET 0) r
         WHERE EXISTS (
           SELECT FROM skyfill.skipped_change c WHERE c.schema_name = $1 AND c.did = r.did
           OFFSET least($3 + coalesce(r.skipped, 0) / 4, $4))
         ORDER BY r.did",
        &[&schema, &dids, &FEW, &MOST],
    )?;
    let mut folded = 0;
    for row in rows {
        folded += u64::from(fold(client, schema, row.get(0))?);
    }
    Ok(folded)
}

/// Puts the changes of an account's list into it. A list in several parts, or one that cannot be
/// read, stays as it is: false.
///
/// # Errors
/// The server refused.
pub fn fold(client: &mut impl GenericClient, schema: &str, did: &str) -> Result<bool, Error> {
    let mut txn = client.transaction()?;
    if !fold_in(&mut txn, schema, did)? {
        txn.rollback()?;
        return Ok(false);
    }
    // The new pieces have numbers below zero.
    for statement in [
        "DELETE FROM skyfill.skipped WHERE schema_name = $1 AND did = $2 AND number >= 0",
        "UPDATE skyfill.skipped SET number = -1 - number WHERE schema_name = $1 AND did = $2",
        "DELETE FROM skyfill.skipped_change WHERE schema_name = $1 AND did = $2",
    ] {
        txn.execute(statement, &[&schema, &did])?;
    }
    txn.commit()?;
    Ok(true)
}

fn fold_in(txn: &mut Transaction<'_>, schema: &str, did: &str) -> Result<bool, Error> {
    if skipped::parts(txn, schema, did)?
        .iter()
        .any(|part| *part != 0)
    {
        return Ok(false);
    }
    let changes = skipped::changes_after(txn, schema, did, b"", i64::MAX)?;
    let mut changes: VecDeque<Change> = changes.into();
    let mut list = NewList {
        writer: ListWriter::default(),
        of: (schema, did),
        pieces: 0,
    };
    for number in 0.. {
        let Some(piece) = skipped::piece(txn, schema, did, (0, number))? else {
            break;
        };
        let Ok(entries) = skipped::read_piece(&piece) else {
            return Ok(false);
        };
        for entry in entries {
            while let Some(change) = changes.pop_front_if(|change| change.key < entry.key) {
                list.add(txn, change.entry.as_ref())?;
            }
            match changes.pop_front_if(|change| change.key == entry.key) {
                Some(change) => list.add(txn, change.entry.as_ref())?,
                None => list.add(txn, Some(&entry))?,
            }
        }
    }
    for change in changes {
        list.add(txn, change.entry.as_ref())?;
    }
    let last = list.writer.take();
    list.store(txn, last)?;
    Ok(true)
}

/// The list that takes the place of another one.
struct NewList<'l> {
    writer: ListWriter,
    /// Schema and account.
    of: (&'l str, &'l str),
    pieces: i32,
}

impl NewList<'_> {
    fn add(&mut self, txn: &mut Transaction<'_>, entry: Option<&Skipped>) -> Result<(), Error> {
        let Some(entry) = entry else { return Ok(()) };
        let (key, detail) = (entry.key.as_slice(), entry.detail.as_str());
        let piece = self.writer.add(key, &entry.cid, entry.reason, detail);
        self.store(txn, piece)
    }

    fn store(&mut self, txn: &mut Transaction<'_>, piece: Option<Vec<u8>>) -> Result<(), Error> {
        let Some(piece) = piece else { return Ok(()) };
        self.pieces += 1;
        let (schema, did) = self.of;
        txn.execute(
            "INSERT INTO skyfill.skipped (schema_name, did, part, number, list) VALUES ($1, $2, 0, $3, $4)",
            &[&schema, &did, &-self.pieces, &piece],
        )?;
        Ok(())
    }
}
