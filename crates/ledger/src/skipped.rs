//! The list of records that a repo has and `record` has not (table `skipped`): key, CID and reason
//! of each, compressed, in pieces. With the rows of `record` it makes up the whole tree, so that
//! the root of the signed commit can be recomputed.
//!
//! Following the event stream does not write lists again for each commit: table `skipped_change`
//! has a row for each key whose entry came, changed or went since the repo was stored as a whole.
//! Readers put it over the list ([`changes_after`]). An entry for a record that is in `record` as
//! well ([`Reason::Irreversible`]) only counts for the CID that it names, so that a record that
//! goes leaves nothing to be written here.

use postgres::{Error, GenericClient, Row};
use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use zstd::bulk::Compressor;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// Why an entry of a repo is on the list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            const ALL: &[Self] = &[$(Self::$name,)*];

            /// One word for summaries.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

// Lists hold the position in this table: new reasons go to its end. A new reason takes:
// 1. the place in the crate `load` that decides whether it applies: `skipping.rs` before the rows
//    of a record are made, `encode_repo/record.rs` and `live/making.rs` while they are;
// 2. the same decision where it is not `load` that makes it. Always in
//    `crates/consumer/src/lines/batch.rs`, which stores such records otherwise: `Batch::add`
//    returns a `Reject` (its words: `Rule` in `crates/rows/src/reject.rs`), which goes to
//    `--rejects`, since lines have no list. If it is decided while rows are made, in
//    `crates/verify/src/audit.rs`, which reports the rows as missing otherwise. If an export of an
//    archive is to leave such records out, in `crates/export/src/cars.rs`;
// 3. what people read of it: its row in docs/explanation/semantics.md, which a test demands, the
//    policy in docs/explanation/policies.md, `why_skipped` of `engine::explain`, CHANGELOG.md;
// 4. if the official indexer stores such records: an entry in `conformance/README.md`, below "Where
//    skyfill differs from the official indexer on purpose";
// 5. a unit test where it is decided, and a case in the suite (`crates/skyfill/tests/suite`), in
//    `questions`, in the test
//    `explain_is_right_about_one_record_of_each_fate`; if a limit is the cause, in the suite's
//    `hostile`, in the test
//    `a_record_over_a_limit_costs_that_record_alone_whichever_way_it_comes`, whose helper `skipped`
//    returns the entries with `OverLimit` only.
reasons! {
    /// It is in `record`, but its JSON cannot be turned back into the same DAG-CBOR; the detail is
    /// the SHA-256 of the JSON.
    Irreversible = "irreversible",
    /// Its collection leaves no row in an AppView.
    Unindexed = "unindexed",
    /// Its collection was left out by choice (`--collections`).
    NotChosen = "not chosen",
    /// Its key is no `collection/rkey`.
    BadKey = "bad key",
    /// It is not canonical DAG-CBOR.
    Unreadable = "unreadable",
    /// The official indexer refuses it, too.
    Refused = "refused",
    /// PostgreSQL refuses it, as it would refuse it to the official indexer.
    RefusedByDatabase = "refused by the database",
    /// It exceeds a limit: it is too large, or shares its block with too many others. The detail
    /// names the limit.
    OverLimit = "over a limit",
}

impl Reason {
    fn code(self) -> u8 {
        self as u8
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
        let detail = shortened(detail);
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

/// A detail as it is kept.
fn shortened(detail: &str) -> &str {
    let mut end = detail.len().min(MAX_DETAIL);
    while !detail.is_char_boundary(end) {
        end -= 1;
    }
    &detail[..end]
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
    client.execute(
        "DELETE FROM skyfill.skipped_change WHERE schema_name = $1 AND did = ANY($2)",
        &[&schema, &dids],
    )?;
    Ok(())
}

/// An entry that came or changed since the repo was stored as a whole, or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The account.
    pub did: String,
    /// Its key in the tree.
    pub key: Vec<u8>,
    /// The entry, if the key has one now.
    pub entry: Option<Skipped>,
}

/// Stores changes of lists. Of a key that is given twice in one call, either may stand.
///
/// # Errors
/// The server refused.
pub fn store_changes(
    client: &mut impl GenericClient,
    schema: &str,
    changes: &[Change],
) -> Result<(), Error> {
    if changes.is_empty() {
        return Ok(());
    }
    let dids: Vec<&str> = changes.iter().map(|change| change.did.as_str()).collect();
    let keys: Vec<&[u8]> = changes.iter().map(|change| change.key.as_slice()).collect();
    let entry = |change: &Change| change.entry.clone();
    let entries: Vec<Option<Skipped>> = changes.iter().map(entry).collect();
    let cids: Vec<Option<&[u8]>> = entries
        .iter()
        .map(|entry| entry.as_ref().map(|entry| entry.cid.as_slice()))
        .collect();
    let reasons: Vec<Option<i16>> = entries
        .iter()
        .map(|entry| Some(i16::from(entry.as_ref()?.reason.code())))
        .collect();
    let details: Vec<Option<&str>> = entries
        .iter()
        .map(|entry| entry.as_ref().map(|entry| shortened(&entry.detail)))
        .collect();
    client.execute(
        "INSERT INTO skyfill.skipped_change AS c (schema_name, did, key, cid, reason, detail)
         SELECT DISTINCT ON (n.did, n.key) $1, n.* FROM unnest($2::text[], $3::bytea[], $4::bytea[], $5::smallint[], $6::text[]) n (did, key, cid, reason, detail)
         ORDER BY n.did, n.key
         ON CONFLICT (schema_name, did, key) DO UPDATE SET cid = excluded.cid, reason = excluded.reason, detail = excluded.detail",
        &[&schema, &dids, &keys, &cids, &reasons, &details],
    )?;
    Ok(())
}

/// The changes of an account's list after a key, in the order of keys: at most `count`.
///
/// # Errors
/// The server refused.
pub fn changes_after(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    after: &[u8],
    count: i64,
) -> Result<Vec<Change>, Error> {
    let rows = client.query(
        "SELECT key, cid, reason, detail FROM skyfill.skipped_change
         WHERE schema_name = $1 AND did = $2 AND key > $3 ORDER BY key LIMIT $4",
        &[&schema, &did, &after, &count],
    )?;
    Ok(rows.iter().map(|row| change_of(did, row)).collect())
}

/// The change of one key of an account's list, if there is one.
///
/// # Errors
/// The server refused.
pub fn change(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    key: &[u8],
) -> Result<Option<Change>, Error> {
    let row = client.query_opt(
        "SELECT key, cid, reason, detail FROM skyfill.skipped_change
         WHERE schema_name = $1 AND did = $2 AND key = $3",
        &[&schema, &did, &key],
    )?;
    Ok(row.map(|row| change_of(did, &row)))
}

fn change_of(did: &str, row: &Row) -> Change {
    let key: Vec<u8> = row.get(0);
    let cid: Option<Vec<u8>> = row.get(1);
    let reason = row
        .get::<_, Option<i16>>(2)
        .and_then(|code| Reason::ALL.get(usize::try_from(code).ok()?).copied());
    let cid = cid.and_then(|cid| <[u8; 36]>::try_from(cid).ok());
    let entry = cid.zip(reason).map(|(cid, reason)| Skipped {
        key: key.clone(),
        cid,
        reason,
        detail: row.get::<_, Option<String>>(3).unwrap_or_default(),
    });
    Change {
        did: did.to_owned(),
        key,
        entry,
    }
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

/// The beginning of one part of an account's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The account.
    pub did: String,
    /// The part.
    pub part: i16,
    /// Piece 0.
    pub piece: Vec<u8>,
    /// Whether it is the only one.
    pub is_whole: bool,
}

/// The first pieces of the lists of these accounts, each account's in the order of parts.
///
/// # Errors
/// The server refused.
pub fn beginnings(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<Vec<Beginning>, Error> {
    let rows = client.query(
        "SELECT s.did, s.part, s.list, NOT EXISTS (
           SELECT FROM skyfill.skipped n WHERE n.schema_name = $1 AND n.did = s.did AND n.part = s.part AND n.number = 1)
         FROM skyfill.skipped s WHERE s.schema_name = $1 AND s.did = ANY($2) AND s.number = 0 ORDER BY s.did, s.part",
        &[&schema, &dids],
    )?;
    let beginning = |row: &Row| Beginning {
        did: row.get(0),
        part: row.get(1),
        piece: row.get(2),
        is_whole: row.get(3),
    };
    Ok(rows.iter().map(beginning).collect())
}

/// Of these accounts those whose lists changed since they were stored as a whole.
///
/// # Errors
/// The server refused.
pub fn changed(
    client: &mut impl GenericClient,
    schema: &str,
    dids: &[&str],
) -> Result<Vec<String>, Error> {
    let rows = client.query(
        "SELECT d FROM unnest($2::text[]) d
         WHERE EXISTS (SELECT FROM skyfill.skipped_change c WHERE c.schema_name = $1 AND c.did = d)",
        &[&schema, &dids],
    )?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_docs_explain_each_reason() {
        let page = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/explanation/semantics.md"
        );
        let page = std::fs::read_to_string(page).unwrap();
        for reason in Reason::ALL {
            let row = format!("\n| `{}` | ", reason.word());
            assert!(
                page.contains(&row),
                "{reason:?} is missing in the table of reasons"
            );
            assert_eq!(Reason::ALL[usize::from(reason.code())], *reason);
        }
    }

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
