//! Content identifiers. A [`Cid`] names a block of a repo: CIDv1, SHA-256, DAG-CBOR or raw. A
//! record may link to anything, so a [`Link`] is any well-formed CIDv1 and keeps its bytes.

use crate::{varint, work};
use data_encoding::{BASE32_NOPAD, Encoding};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::LazyLock;

/// Lower-case unpadded base 32, multibase prefix `b`.
static BASE32_LOWER: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = BASE32_NOPAD.specification();
    spec.symbols = spec.symbols.to_ascii_lowercase();
    // A constant of the library in lower case: always valid.
    spec.encoding().unwrap_or(BASE32_NOPAD)
});

/// The format of the bytes under a CID (<https://github.com/multiformats/multicodec>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// 0x71: records, MST nodes, commits.
    DagCbor,
    /// 0x55: blobs.
    Raw,
}

/// A CIDv1 with a SHA-256 digest, the only kind that names blocks of a repo. Its binary form has 36
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    codec: Codec,
    digest: [u8; 32],
}

impl Cid {
    /// Length of the binary form in bytes.
    pub const BYTES: usize = 36;

    /// The CID of `bytes` as a block of kind `codec`.
    #[must_use]
    pub fn of(codec: Codec, bytes: &[u8]) -> Self {
        work::add(bytes.len());
        Self {
            codec,
            digest: Sha256::digest(bytes).into(),
        }
    }

    /// Reads a binary CID from the front of `bytes`; `None` if it is of another kind or cut off.
    #[must_use]
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (head, rest) = bytes.split_at_checked(Self::BYTES)?;
        Some((Self::from_bytes(head)?, rest))
    }

    /// The CID whose binary form is exactly `bytes`.
    #[must_use]
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[version, codec, hash, length], digest) = bytes.split_first_chunk::<4>()?;
        let codec = match codec {
            0x71 => Codec::DagCbor,
            0x55 => Codec::Raw,
            _ => return None,
        };
        if (version, hash, length) != (1, 0x12, 32) {
            return None;
        }
        Some(Self {
            codec,
            digest: digest.try_into().ok()?,
        })
    }

    /// The binary form.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let codec = match self.codec {
            Codec::DagCbor => 0x71,
            Codec::Raw => 0x55,
        };
        let mut out = [0; Self::BYTES];
        let (head, digest) = out.split_at_mut(4);
        head.copy_from_slice(&[1, codec, 0x12, 32]);
        digest.copy_from_slice(&self.digest);
        out
    }

    /// Appends the usual string form to `out`.
    pub fn append_to(&self, out: &mut String) {
        out.push('b');
        BASE32_LOWER.encode_append(&self.to_bytes(), out);
    }

    /// Whether this is the hash of `bytes`.
    #[must_use]
    #[inline]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        work::add(bytes.len());
        self.digest[..] == Sha256::digest(bytes)[..]
    }

    /// As [`Cid::matches`], for a block that may be large: after each piece, `progress` gets the
    /// number of bytes hashed so far.
    pub(crate) fn matches_in_pieces(&self, bytes: &[u8], mut progress: impl FnMut(usize)) -> bool {
        const PIECE: usize = 1 << 20;
        if bytes.len() <= PIECE {
            return self.matches(bytes);
        }
        work::add(bytes.len());
        let mut hash = Sha256::new();
        let mut done = 0usize;
        for piece in bytes.chunks(PIECE) {
            hash.update(piece);
            done = done.saturating_add(piece.len());
            progress(done);
        }
        self.digest[..] == hash.finalize()[..]
    }

    /// The format of the bytes under this CID.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The SHA-256 digest.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Link(&self.to_bytes()).fmt(f)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Any well-formed binary CIDv1, as a record may link to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Link<'a>(&'a [u8]);

impl<'a> Link<'a> {
    /// Longest binary CID that is accepted; real ones have 36 bytes.
    pub const MAX_BYTES: usize = 128;

    /// The CID whose binary form is exactly `bytes`: version 1, any codec, a digest of the stated
    /// length.
    #[must_use]
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > Self::MAX_BYTES {
            return None;
        }
        let (version, rest) = varint::read(bytes).ok()?;
        let (_codec, rest) = varint::read(rest).ok()?;
        let (_hash, rest) = varint::read(rest).ok()?;
        let (length, digest) = varint::read(rest).ok()?;
        (version == 1 && usize::try_from(length) == Ok(digest.len())).then_some(Self(bytes))
    }

    /// Whether it links to plain bytes, as links to blobs do.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        self.0.starts_with(&[1, 0x55])
    }

    /// The binary form.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// The binary form of a CID in its usual string form (`b`, then lower-case base 32); `None` if
    /// `text` is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Vec<u8>> {
        if text.len() > Self::MAX_BYTES.saturating_mul(2) {
            return None;
        }
        let bytes = BASE32_LOWER
            .decode(text.strip_prefix('b')?.as_bytes())
            .ok()?;
        Link::from_bytes(&bytes)?;
        Some(bytes)
    }
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}", BASE32_LOWER.encode_display(self.0))
    }
}

impl fmt::Debug for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cid_prints_and_parses_as_the_network_writes_it() {
        // The CID of an empty DAG-CBOR map, known to every implementation.
        let cid = Cid::of(Codec::DagCbor, &[0xa0]);
        assert_eq!(
            cid.to_string(),
            "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"
        );
        assert_eq!(
            Link::parse(&cid.to_string()).as_deref(),
            Some(&cid.to_bytes()[..])
        );
        assert_eq!(Cid::from_bytes(&cid.to_bytes()), Some(cid));
    }

    #[test]
    fn other_kinds_are_links_but_not_block_names() {
        let identity = [1u8, 0x55, 0, 0];
        assert!(Link::from_bytes(&identity).is_some());
        assert!(Cid::from_bytes(&identity).is_none());
        assert!(
            Link::from_bytes(&[1, 0x71, 0x12, 32, 0]).is_none(),
            "digest cut off"
        );
        assert!(
            Link::parse("QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh51").is_none(),
            "version 0"
        );
    }
}
