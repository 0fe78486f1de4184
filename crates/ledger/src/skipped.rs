//! The list of records that a repo has and `record` has not (table `skipped`): key, CID and reason
//! of each, compressed, in pieces. With the rows of `record` it makes up the whole tree, so that
//! the root of the signed commit can be recomputed.

use postgres::{Error, GenericClient};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use zstd::bulk::Compressor;

/// Why an entry of a repo is on the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is in `record`, but its JSON cannot be turned back into the same DAG-CBOR; the detail is
    /// the SHA-256 of the JSON.
    Irreversible,
    /// Its collection leaves no row in an AppView.
    Unindexed,
    /// Its collection was left out by choice (`--collections`).
    NotChosen,
    /// Its key is no `collection/rkey`.
    BadKey,
    /// It is not canonical DAG-CBOR.
    Unreadable,
    /// The official indexer refuses it, too.
    Refused,
    /// PostgreSQL refuses it, as it would refuse it to the official indexer.
    RefusedByDatabase,
    /// It exceeds a limit: it is too large, or shares its block with too many others. The detail
    /// names the limit.
    OverLimit,
}

impl Reason {
    // Lists hold the position in this table: new reasons go to its end.
    const ALL: [Self; 8] = [
        Self::Irreversible,
        Self::Unindexed,
        Self::NotChosen,
        Self::BadKey,
        Self::Unreadable,
        Self::Refused,
        Self::RefusedByDatabase,
        Self::OverLimit,
    ];

    /// One word for summaries.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Irreversible => "irreversible",
            Self::Unindexed => "unindexed",
            Self::NotChosen => "not chosen",
            Self::BadKey => "bad key",
            Self::Unreadable => "unreadable",
            Self::Refused => "refused",
            Self::RefusedByDatabase => "refused by the database",
            Self::OverLimit => "over a limit",
        }
    }

    fn code(self) -> u8 {
        // A handful of them.
        Self::ALL
            .iter()
            .position(|r| *r == self)
            .and_then(|at| u8::try_from(at).ok())
            .unwrap_or(u8::MAX)
    }
}

/// An entry of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Its key in the tree.
    pub key: Vec<u8>,
    /// Its CID in binary form.
    pub cid: [u8; 36],
    /// Why.
    pub reason: Reason,
    /// More about it.
    pub detail: String,
}

/// Longest detail that is kept, in bytes.
const MAX_DETAIL: usize = 200;
/// A piece is closed when it has so many bytes before compression.
const PIECE_BYTES: usize = 1 << 20;
/// Fast, and most of a list are CIDs, which do not shrink.
const LEVEL: i32 = 1;

/// Makes the pieces of a list.
#[derive(Default)]
pub struct ListWriter {
    plain: Vec<u8>,
}

impl ListWriter {
    /// Adds an entry; returns a piece when one is full.
    pub fn add(
        &mut self,
        key: &[u8],
        cid: &[u8; 36],
        reason: Reason,
        detail: &str,
    ) -> Option<Vec<u8>> {
        let mut end = detail.len().min(MAX_DETAIL);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        let detail = &detail[..end];
        // Keys have at most 1024 bytes.
        let length = u16::try_from(key.len()).unwrap_or(u16::MAX);
        self.plain.extend_from_slice(&length.to_be_bytes());
        self.plain.extend_from_slice(&key[..usize::from(length)]);
        self.plain.extend_from_slice(cid);
        self.plain.push(reason.code());
        self.plain.push(u8::try_from(detail.len()).unwrap_or(0));
        self.plain.extend_from_slice(detail.as_bytes());
        (self.plain.len() >= PIECE_BYTES)
            .then(|| self.take())
            .flatten()
    }

    /// The last piece, if anything is left.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.plain.is_empty() {
            return None;
        }
        thread_local! {
            // Making one takes longer than compressing the list of a small repo.
            static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(LEVEL).ok());
        }
        // Compressing into memory does not fail.
        let piece = COMPRESSOR
            .with_borrow_mut(|compressor| compressor.as_mut()?.compress(&self.plain).ok());
        self.plain.clear();
        piece
    }
}

/// What is wrong with a stored piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenList;

impl fmt::Display for BrokenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the list of skipped records is corrupt")
    }
}

impl std::error::Error for BrokenList {}

/// Reads a piece.
///
/// # Errors
/// It is none.
pub fn read_piece(piece: &[u8]) -> Result<Vec<Skipped>, BrokenList> {
    let mut plain = Vec::new();
    zstd::Decoder::new(piece)
        .and_then(|decoder| decoder.take(64 << 20).read_to_end(&mut plain))
        .map_err(|_: io::Error| BrokenList)?;
    let mut rest = plain.as_slice();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (entry, after) = read_entry(rest).ok_or(BrokenList)?;
        entries.push(entry);
        rest = after;
    }
    Ok(entries)
}

fn read_entry(bytes: &[u8]) -> Option<(Skipped, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (key, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    let (cid, rest) = rest.split_first_chunk::<36>()?;
    let ([code, length], rest) = rest.split_first_chunk::<2>()?;
    let (detail, rest) = rest.split_at_checked(usize::from(*length))?;
    let entry = Skipped {
        key: key.to_vec(),
        cid: *cid,
        reason: *Reason::ALL.get(usize::from(*code))?,
        detail: std::str::from_utf8(detail).ok()?.to_owned(),
    };
    Some((entry, rest))
}

/// Forgets the pieces of older revs: of each account all, or, where the repo comes in several parts
/// (`is_part`), those of this part.
///
/// # Errors
/// The server refused.
pub fn forget(
    client: &mut impl GenericClient,
    schema: &str,
    lists: &[(&str, i16)],
    is_part: bool,
) -> Result<(), Error> {
    let (dids, parts): (Vec<&str>, Vec<i16>) = lists.iter().copied().unzip();
    client.execute(
        "DELETE FROM skyfill.skipped s USING unnest($2::text[], $3::smallint[]) n (did, part)
         WHERE s.schema_name = $1 AND s.did = n.did AND (s.part = n.part OR NOT $4)",
        &[&schema, &dids, &parts, &is_part],
    )?;
    Ok(())
}

/// The statement that stores pieces, as [`append_row`] encodes them.
pub const COPY: &str =
    "COPY skyfill.skipped (schema_name, did, part, number, list) FROM STDIN BINARY";

/// Appends a piece as a row of PostgreSQL's binary COPY format.
pub fn append_row(
    rows: &mut Vec<u8>,
    schema: &str,
    did: &str,
    (part, number): (i16, i32),
    piece: &[u8],
) {
    rows.extend(5i16.to_be_bytes());
    for value in [
        schema.as_bytes(),
        did.as_bytes(),
        &part.to_be_bytes(),
        &number.to_be_bytes(),
        piece,
    ] {
        rows.extend(i32::try_from(value.len()).unwrap_or(i32::MAX).to_be_bytes());
        rows.extend(value);
    }
}

/// The parts of an account's list, in order.
///
/// # Errors
/// The server refused.
pub fn parts(client: &mut impl GenericClient, schema: &str, did: &str) -> Result<Vec<i16>, Error> {
    let sql = "SELECT DISTINCT part FROM skyfill.skipped WHERE schema_name = $1 AND did = $2 ORDER BY part";
    let rows = client.query(sql, &[&schema, &did])?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A piece of a part of an account's list, by its number from 0, as [`read_piece`] takes it.
///
/// # Errors
/// The server refused.
pub fn piece(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    (part, number): (i16, i32),
) -> Result<Option<Vec<u8>>, Error> {
    let row = client.query_opt(
        "SELECT list FROM skyfill.skipped WHERE schema_name = $1 AND did = $2 AND part = $3 AND number = $4",
        &[&schema, &did, &part, &number],
    )?;
    Ok(row.map(|row| row.get(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_reads_back_and_a_broken_one_is_an_error() {
        let mut writer = ListWriter::default();
        let mut pieces = Vec::new();
        for n in 0..20_000u32 {
            let mut cid = [0; 36];
            cid[..4].copy_from_slice(&n.to_be_bytes());
            pieces.extend(writer.add(
                format!("a/{n}").as_bytes(),
                &cid,
                Reason::Refused,
                "é".repeat(150).as_str(),
            ));
        }
        pieces.extend(writer.take());
        assert!(pieces.len() > 1);
        let entries: Vec<Skipped> = pieces
            .iter()
            .flat_map(|piece| read_piece(piece).unwrap())
            .collect();
        assert_eq!(entries.len(), 20_000);
        assert_eq!(entries[7].key, b"a/7");
        assert_eq!(entries[7].detail, "é".repeat(100));
        assert_eq!(read_piece(b"nonsense"), Err(BrokenList));
        assert_eq!(
            read_piece(&zstd::bulk::compress(b"abc", 1).unwrap()),
            Err(BrokenList)
        );
    }
}
