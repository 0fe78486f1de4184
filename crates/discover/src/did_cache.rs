//! Reads DID caches: pairs of DID and PDS in MessagePack or CBOR, as one array of pairs or as pairs
//! end to end.
//!
//! The original scripts write their DID cache with msgpackr (`pack` of an array, or `PackrStream`)
//! or with cbor-x (`EncoderStream`). The first bytes decide which form it is. Entries are read one
//! by one, so memory does not grow with the file. An entry that is not a pair of strings is
//! reported with its position and skipped.

use rmp::Marker;
use std::fmt;
use std::io::{self, Read};

/// Longest string that is accepted; a DID has at most 2 KiB.
const MAX_TEXT_BYTES: u64 = 8 << 10;
/// Maximum nesting inside an entry that is skipped.
const MAX_DEPTH: usize = 256;
/// Number of first bytes from which the form is detected.
const PEEK: usize = 32;

/// The encoding of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// MessagePack.
    MessagePack,
    /// CBOR.
    Cbor,
}

/// The arrangement of the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// In one array.
    Array,
    /// End to end.
    Stream,
}

/// Why reading ended early.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheError {
    /// The file has none of the known forms.
    UnknownForm,
    /// The file ends inside an entry, or before the array is full.
    CutOff {
        /// Offset of the entry.
        at: u64,
    },
    /// Bytes that no decoder can skip.
    Broken {
        /// Its offset.
        at: u64,
        /// What it is.
        what: &'static str,
    },
    /// The file cannot be read.
    Io(io::Error),
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownForm => {
                write!(f, "not a list of DID and PDS pairs in MessagePack or CBOR")
            }
            Self::CutOff { at } => write!(f, "cut off inside the entry at byte {at}"),
            Self::Broken { at, what } => write!(f, "unreadable from byte {at} on: {what}"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for CacheError {}

impl From<io::Error> for CacheError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An entry of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A pair.
    Pair {
        /// The first string.
        did: &'a str,
        /// The second string.
        pds: &'a str,
    },
    /// Something else, which was skipped.
    Bad {
        /// Its number, from 0.
        number: u64,
        /// Its offset in bytes.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
}

/// Reads a cache to its end and passes each entry to `each`, until that returns an error.
///
/// # Errors
/// See [`CacheError`]; the entries before it were passed on. Errors of `each` are returned
/// unchanged.
pub fn read<E: From<CacheError>>(
    file: impl Read,
    mut each: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut source = Source::open(file)?;
    let Some((encoding, layout)) = detect_format(source.peek()) else {
        // An empty stream of pairs is a file without a byte.
        return if source.peek().is_empty() {
            Ok(())
        } else {
            Err(CacheError::UnknownForm.into())
        };
    };
    let mut left = match layout {
        Layout::Stream => None,
        Layout::Array => match head(&mut source, encoding)? {
            Head::List(count) => count,
            _ => return Err(CacheError::UnknownForm.into()),
        },
    };
    let open_ended = layout == Layout::Array && left.is_none();
    let mut pair = [Vec::new(), Vec::new()];
    let mut number = 0u64;
    loop {
        if left == Some(0) {
            break;
        }
        let at = source.at;
        if source.is_at_end()? {
            match layout {
                Layout::Stream => return Ok(()),
                Layout::Array => return Err(CacheError::CutOff { at }.into()),
            }
        }
        let outcome = match read_entry(&mut source, encoding, &mut pair) {
            Ok(outcome) => outcome,
            Err(CacheError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(CacheError::CutOff { at }.into());
            }
            Err(error) => return Err(error.into()),
        };
        match outcome {
            EntryKind::Break if open_ended => break,
            EntryKind::Break => {
                return Err(CacheError::Broken {
                    at,
                    what: "a break outside of an array",
                }
                .into());
            }
            EntryKind::Bad(why) => each(Entry::Bad { number, at, why })?,
            EntryKind::Pair => {
                let [did, pds] = &pair;
                match (std::str::from_utf8(did), std::str::from_utf8(pds)) {
                    (Ok(did), Ok(pds)) => each(Entry::Pair { did, pds })?,
                    _ => each(Entry::Bad {
                        number,
                        at,
                        why: "a string that is not UTF-8",
                    })?,
                }
            }
        }
        number = number.saturating_add(1);
        left = left.map(|left| left.saturating_sub(1));
    }
    let at = source.at;
    if source.is_at_end()? {
        Ok(())
    } else {
        Err(CacheError::Broken {
            at,
            what: "bytes after the array",
        }
        .into())
    }
}

/// Detects the form from the first bytes: one that begins with a pair, or an array of pairs, whose
/// first string is a DID; otherwise one whose first string is any text. If none fits because the
/// first entry is bad, the first bytes alone decide.
fn detect_format(start: &[u8]) -> Option<(Encoding, Layout)> {
    let encodings = [Encoding::MessagePack, Encoding::Cbor];
    for prefix in [&b"did:"[..], b""] {
        for (layout, encoding) in [Layout::Stream, Layout::Array]
            .into_iter()
            .flat_map(|l| encodings.map(|e| (l, e)))
        {
            if begins_with_pair(start, encoding, layout, prefix) {
                return Some((encoding, layout));
            }
        }
    }
    match *start {
        [0x80 | 0x9f, ..] | [0x98..=0x9b, _, 0x82 | 0xf6, ..] => {
            Some((Encoding::Cbor, Layout::Array))
        }
        [0x81..=0x8f, ..] => Some((Encoding::Cbor, Layout::Stream)),
        // A pair whose first part is not a string, or an array of two entries.
        [0x92, next, ..] if !matches!(next, 0x90..=0x9f | 0xdc | 0xdd) => {
            Some((Encoding::MessagePack, Layout::Stream))
        }
        [0x90..=0x9e | 0xdc | 0xdd, ..] => Some((Encoding::MessagePack, Layout::Array)),
        _ => None,
    }
}

fn begins_with_pair(start: &[u8], encoding: Encoding, layout: Layout, prefix: &[u8]) -> bool {
    let mut source = Source {
        file: start,
        peeked: Vec::new(),
        used: 0,
        at: 0,
    };
    let in_array =
        layout == Layout::Stream || matches!(head(&mut source, encoding), Ok(Head::List(_)));
    in_array
        && matches!(head(&mut source, encoding), Ok(Head::List(Some(2))))
        && matches!(
            head(&mut source, encoding),
            Ok(Head::Text(Some(1..=MAX_TEXT_BYTES)))
        )
        && source.file.starts_with(prefix)
}

/// A file of which the first bytes can be peeked and the bytes read are counted.
struct Source<R> {
    file: R,
    peeked: Vec<u8>,
    used: usize,
    at: u64,
}

impl<R: Read> Source<R> {
    fn open(mut file: R) -> Result<Self, CacheError> {
        let mut peeked = Vec::with_capacity(PEEK);
        file.by_ref()
            .take(u64::try_from(PEEK).unwrap_or(0))
            .read_to_end(&mut peeked)?;
        Ok(Self {
            file,
            peeked,
            used: 0,
            at: 0,
        })
    }

    fn peek(&self) -> &[u8] {
        &self.peeked
    }

    fn is_at_end(&mut self) -> Result<bool, CacheError> {
        if self.used < self.peeked.len() {
            return Ok(false);
        }
        self.peeked.clear();
        self.used = 0;
        self.file.by_ref().take(1).read_to_end(&mut self.peeked)?;
        Ok(self.peeked.is_empty())
    }

    fn byte(&mut self) -> Result<u8, CacheError> {
        let mut one = [0u8];
        self.fill(&mut one)?;
        let [byte] = one;
        Ok(byte)
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), CacheError> {
        let view = self.peeked.get(self.used..).unwrap_or_default();
        let first = view.len().min(out.len());
        let (head, tail) = out.split_at_mut_checked(first).unwrap_or_default();
        head.copy_from_slice(view.get(..first).unwrap_or_default());
        self.used = self.used.saturating_add(first);
        self.file.read_exact(tail)?;
        self.at = self
            .at
            .saturating_add(u64::try_from(first.saturating_add(tail.len())).unwrap_or(0));
        Ok(())
    }

    /// A big-endian number of `bytes` bytes.
    fn number(&mut self, bytes: usize) -> Result<u64, CacheError> {
        let mut wide = [0u8; 8];
        let skip = wide.len().saturating_sub(bytes);
        self.fill(wide.get_mut(skip..).unwrap_or_default())?;
        Ok(u64::from_be_bytes(wide))
    }

    fn skip(&mut self, mut count: u64) -> Result<(), CacheError> {
        let mut waste = [0u8; 4096];
        while count > 0 {
            let now = usize::try_from(count)
                .unwrap_or(usize::MAX)
                .min(waste.len());
            self.fill(waste.get_mut(..now).unwrap_or_default())?;
            count = count.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX));
        }
        Ok(())
    }

    fn text(&mut self, length: u64, out: &mut Vec<u8>) -> Result<(), CacheError> {
        out.clear();
        out.resize(usize::try_from(length).unwrap_or(0), 0);
        self.fill(out)
    }
}

/// The head of an item. Lengths that are not known beforehand are `None` (CBOR only).
enum Head {
    List(Option<u64>),
    Map(Option<u64>),
    Text(Option<u64>),
    /// That many bytes of anything else.
    Blob(Option<u64>),
    /// The value is the next item.
    Tag,
    Break,
}

fn head<R: Read>(source: &mut Source<R>, encoding: Encoding) -> Result<Head, CacheError> {
    let at = source.at;
    let byte = source.byte()?;
    match encoding {
        Encoding::MessagePack => message_pack_head(source, byte, at),
        Encoding::Cbor => cbor_head(source, byte, at),
    }
}

fn message_pack_head<R: Read>(
    source: &mut Source<R>,
    byte: u8,
    at: u64,
) -> Result<Head, CacheError> {
    let small = |length: u8| Some(u64::from(length));
    let with_type = |length: u64| Head::Blob(Some(length.saturating_add(1)));
    Ok(match Marker::from_u8(byte) {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
            Head::Blob(Some(0))
        }
        Marker::FixStr(length) => Head::Text(small(length)),
        Marker::Str8 => Head::Text(Some(source.number(1)?)),
        Marker::Str16 => Head::Text(Some(source.number(2)?)),
        Marker::Str32 => Head::Text(Some(source.number(4)?)),
        Marker::FixArray(length) => Head::List(small(length)),
        Marker::Array16 => Head::List(Some(source.number(2)?)),
        Marker::Array32 => Head::List(Some(source.number(4)?)),
        Marker::FixMap(length) => Head::Map(small(length)),
        Marker::Map16 => Head::Map(Some(source.number(2)?)),
        Marker::Map32 => Head::Map(Some(source.number(4)?)),
        Marker::Bin8 => Head::Blob(Some(source.number(1)?)),
        Marker::Bin16 => Head::Blob(Some(source.number(2)?)),
        Marker::Bin32 => Head::Blob(Some(source.number(4)?)),
        Marker::U8 | Marker::I8 => Head::Blob(Some(1)),
        Marker::U16 | Marker::I16 => Head::Blob(Some(2)),
        Marker::U32 | Marker::I32 | Marker::F32 => Head::Blob(Some(4)),
        Marker::U64 | Marker::I64 | Marker::F64 => Head::Blob(Some(8)),
        Marker::FixExt1 => with_type(1),
        Marker::FixExt2 => with_type(2),
        Marker::FixExt4 => with_type(4),
        Marker::FixExt8 => with_type(8),
        Marker::FixExt16 => with_type(16),
        Marker::Ext8 => with_type(source.number(1)?),
        Marker::Ext16 => with_type(source.number(2)?),
        Marker::Ext32 => with_type(source.number(4)?),
        Marker::Reserved => {
            return Err(CacheError::Broken {
                at,
                what: "a reserved MessagePack byte",
            });
        }
    })
}

/// RFC 8949, section 3.
fn cbor_head<R: Read>(source: &mut Source<R>, byte: u8, at: u64) -> Result<Head, CacheError> {
    let length = match byte & 0x1f {
        small @ 0..=23 => Some(u64::from(small)),
        24 => Some(source.number(1)?),
        25 => Some(source.number(2)?),
        26 => Some(source.number(4)?),
        27 => Some(source.number(8)?),
        31 => None,
        _ => {
            return Err(CacheError::Broken {
                at,
                what: "a reserved CBOR length",
            });
        }
    };
    Ok(match (byte >> 5, length) {
        (2, length) => Head::Blob(length),
        (3, length) => Head::Text(length),
        (4, length) => Head::List(length),
        (5, length) => Head::Map(length),
        (6, Some(_)) => Head::Tag,
        (7, None) => Head::Break,
        // Numbers, floats and simple values are complete with the head.
        (0 | 1 | 7, Some(_)) => Head::Blob(Some(0)),
        _ => {
            return Err(CacheError::Broken {
                at,
                what: "an indefinite length where none can be",
            });
        }
    })
}

/// What an entry is.
enum EntryKind {
    Pair,
    Bad(&'static str),
    Break,
}

/// Reads an entry into `pair`, or skips it.
fn read_entry<R: Read>(
    source: &mut Source<R>,
    encoding: Encoding,
    pair: &mut [Vec<u8>; 2],
) -> Result<EntryKind, CacheError> {
    match head(source, encoding)? {
        Head::Break => return Ok(EntryKind::Break),
        Head::List(Some(2)) => {}
        other => {
            skip_rest(source, encoding, other)?;
            return Ok(EntryKind::Bad("not an array of two"));
        }
    }
    let mut outcome = EntryKind::Pair;
    for part in pair {
        match head(source, encoding)? {
            Head::Text(Some(length @ 1..=MAX_TEXT_BYTES)) => source.text(length, part)?,
            other => {
                outcome = EntryKind::Bad(match other {
                    Head::Text(Some(0)) => "an empty string",
                    Head::Text(_) => "a string of more than 8 KiB",
                    _ => "something other than a string",
                });
                skip_rest(source, encoding, other)?;
            }
        }
    }
    Ok(outcome)
}

/// Skips the rest of an item whose head was read, without recursion.
fn skip_rest<R: Read>(
    source: &mut Source<R>,
    encoding: Encoding,
    first: Head,
) -> Result<(), CacheError> {
    // Items still to skip in each open container; `None`: until a break.
    let mut open: Vec<Option<u64>> = vec![Some(1)];
    let mut next = Some(first);
    while let Some(top) = open.last_mut() {
        if *top == Some(0) {
            open.pop();
            continue;
        }
        let at = source.at;
        let head = match next.take() {
            Some(head) => head,
            None => head(source, encoding)?,
        };
        if let Head::Break = head {
            if top.is_some() {
                return Err(CacheError::Broken {
                    at,
                    what: "a break outside of a container",
                });
            }
            open.pop();
            continue;
        }
        if let Head::Tag = head {
            continue;
        }
        *top = top.map(|left| left.saturating_sub(1));
        match head {
            Head::Text(Some(length)) | Head::Blob(Some(length)) => source.skip(length)?,
            Head::List(count) => open.push(count),
            Head::Map(count) => open.push(count.map(|count| count.saturating_mul(2))),
            // Pieces, up to a break.
            Head::Text(None) | Head::Blob(None) => open.push(None),
            Head::Tag | Head::Break => {}
        }
        if open.len() > MAX_DEPTH {
            return Err(CacheError::Broken {
                at,
                what: "nested too deep",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
