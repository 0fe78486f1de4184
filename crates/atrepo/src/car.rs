//! CAR version 1: a header with one root, then sections of CID and bytes in any order.

use crate::cbor::{self, Value};
use crate::cid::Cid;
use crate::error::RepoError;
use crate::limits::{LEAST_SECTION_BYTES, MAX_BLOCKS, MAX_HEADER_BYTES, MAX_SECTION_BYTES};
use crate::varint::{self, NoVarint};

/// Number of sections that are accepted whatever their size.
const FEW_SECTIONS: usize = 1024;

/// Iterator over the sections of a CAR, in file order. It does not check hashes;
/// [`BlockIndex::build`] does.
pub struct Blocks<'a> {
    car: &'a [u8],
    at: usize,
}

impl<'a> Blocks<'a> {
    /// Reads the header; returns the root and the sections.
    ///
    /// # Errors
    /// The header is cut off, too long, not DAG-CBOR, of another version, or does not have
    /// exactly one root.
    pub fn open(car: &'a [u8]) -> Result<(Cid, Self), RepoError> {
        if car.is_empty() {
            return Err(RepoError::Empty);
        }
        let (length, rest) = varint::read(car).map_err(|error| no_length(0, error))?;
        if length > MAX_HEADER_BYTES {
            return Err(RepoError::HeaderTooLarge { claimed: length });
        }
        let header = usize::try_from(length)
            .ok()
            .and_then(|n| rest.get(..n))
            .ok_or(RepoError::Truncated { at: 0 })?;
        let map = cbor::check(header)
            .ok()
            .and_then(|item| item.as_map())
            .ok_or(RepoError::Header("no DAG-CBOR map"))?;
        if !matches!(
            map.get("version").map(|v| v.value()),
            Some(Value::Unsigned(1))
        ) {
            return Err(RepoError::Header("not version 1"));
        }
        let Some(Value::List(mut roots)) = map.get("roots").map(|v| v.value()) else {
            return Err(RepoError::Header("no roots"));
        };
        let (Some(root), None) = (roots.next(), roots.next()) else {
            return Err(RepoError::Header("not exactly one root"));
        };
        let Value::Link(link) = root.value() else {
            return Err(RepoError::Header("a root that is no CID"));
        };
        let root = Cid::from_bytes(link.as_bytes())
            .ok_or(RepoError::Header("a root that is no CIDv1 of SHA-256"))?;
        let at = car
            .len()
            .saturating_sub(rest.len())
            .saturating_add(header.len());
        Ok((root, Self { car, at }))
    }

    /// Counts the sections by their lengths alone; `progress` gets the offset of each.
    fn count_sections(mut self, mut progress: impl FnMut(usize)) -> Result<usize, RepoError> {
        let size = self.car.len();
        let most = size
            .checked_div(LEAST_SECTION_BYTES)
            .unwrap_or(0)
            .max(FEW_SECTIONS);
        let mut count = 0usize;
        while let Some((at, _)) = self.next_section()? {
            progress(at);
            count = count.saturating_add(1);
            if count > MAX_BLOCKS {
                return Err(RepoError::TooManyBlocks);
            }
            if count > most {
                return Err(RepoError::TinySections { bytes: size });
            }
        }
        Ok(count)
    }

    #[inline]
    fn section(&mut self) -> Result<Option<(Cid, usize, &'a [u8])>, RepoError> {
        let Some((at, section)) = self.next_section()? else {
            return Ok(None);
        };
        let (cid, bytes) = Cid::read(section).ok_or(RepoError::BlockName { at })?;
        Ok(Some((cid, at, bytes)))
    }

    /// The offset of the next section, and its bytes after the length.
    #[inline]
    fn next_section(&mut self) -> Result<Option<(usize, &'a [u8])>, RepoError> {
        let at = self.at;
        let rest = self.car.get(at..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (length, body) = varint::read(rest).map_err(|error| no_length(at, error))?;
        if length > MAX_SECTION_BYTES {
            return Err(RepoError::SectionTooLarge {
                at,
                claimed: length,
            });
        }
        let section = usize::try_from(length)
            .ok()
            .and_then(|n| body.get(..n))
            .ok_or(RepoError::Truncated { at })?;
        self.at = self
            .car
            .len()
            .saturating_sub(body.len())
            .saturating_add(section.len());
        Ok(Some((at, section)))
    }
}

/// The error for a length at `at` that is not valid.
fn no_length(at: usize, error: NoVarint) -> RepoError {
    match error.broken_length() {
        Some(what) => RepoError::Length { at, what },
        None => RepoError::Truncated { at },
    }
}

impl<'a> Iterator for Blocks<'a> {
    /// CID, offset of the section in the CAR, bytes of the block.
    type Item = Result<(Cid, usize, &'a [u8]), RepoError>;

    fn next(&mut self) -> Option<Self::Item> {
        let section = self.section();
        if section.is_err() {
            self.at = self.car.len();
        }
        section.transpose()
    }
}

/// Memory that an index of `blocks` blocks uses, in bytes.
#[must_use]
pub fn index_bytes(blocks: usize) -> usize {
    let place = size_of::<(u64, u64)>().saturating_add(size_of::<u32>());
    blocks.saturating_add(2).saturating_mul(place)
}

/// A CAR with the offset of each of its blocks. Every hash was checked. The index takes 20 bytes
/// per block, whatever the block's size ([`index_bytes`]).
pub struct BlockIndex<C> {
    car: C,
    /// First eight bytes of the digest, and the offset of the section; sorted, each CID once. The
    /// digests were checked, so nobody can choose them: equal prefixes mean the same bytes under
    /// both codecs, or a very rare collision.
    places: Vec<(u64, u64)>,
    /// Index in `places` at which each leading part of a digest begins. Digests are evenly
    /// distributed, so a bucket holds a few places.
    buckets: Vec<u32>,
    /// Number of bits of a prefix that do not select the bucket.
    shift: u32,
}

impl<C: AsRef<[u8]>> BlockIndex<C> {
    /// Reads all of `car`; returns its root and the index.
    ///
    /// # Errors
    /// Any error of [`Blocks`], or a block whose bytes have another hash.
    pub fn build(car: C) -> Result<(Cid, Self), RepoError> {
        Self::build_within(car, |_| Ok(()), |_, _| ())
    }

    /// As [`BlockIndex::build`], with two callbacks. `admit` gets the memory that the index will
    /// use ([`index_bytes`]) before it is allocated. `progress` gets the offset of each block
    /// twice: when sections are counted, and when they are hashed.
    ///
    /// # Errors
    /// As [`BlockIndex::build`]; or the error that `admit` returns.
    pub fn build_within<E: From<RepoError>>(
        car: C,
        admit: impl FnOnce(usize) -> Result<(), E>,
        mut progress: impl FnMut(&C, usize),
    ) -> Result<(Cid, Self), E> {
        let (_, sections) = Blocks::open(car.as_ref())?;
        let count = sections.count_sections(|at| progress(&car, at))?;
        admit(index_bytes(count))?;
        let (root, blocks) = Blocks::open(car.as_ref())?;
        let mut places = Vec::with_capacity(count);
        for block in blocks {
            let (cid, at, bytes) = block?;
            progress(&car, at);
            if !cid.matches_in_pieces(bytes, |done| progress(&car, at.saturating_add(done))) {
                return Err(RepoError::HashMismatch(cid).into());
            }
            places.push((prefix(&cid), u64::try_from(at).unwrap_or(u64::MAX)));
        }
        places.sort_unstable();
        let mut index = Self {
            car,
            places: Vec::new(),
            buckets: Vec::new(),
            shift: 0,
        };
        // A prefix that occurs once, which is nearly always, needs no comparison. `of_prefix` holds
        // the CIDs of the present prefix: one, or two where both codecs occur.
        let mut of_prefix: Vec<Cid> = Vec::new();
        let mut kept = 0usize;
        for at in 0..places.len() {
            let Some(&place) = places.get(at) else { break };
            let same =
                |other: Option<&(u64, u64)>| other.is_some_and(|(prefix, _)| *prefix == place.0);
            let after_same = same(kept.checked_sub(1).and_then(|last| places.get(last)));
            if !after_same {
                of_prefix.clear();
            }
            if after_same || same(places.get(at.saturating_add(1))) {
                let Some((cid, _)) = index.read_at(place.1) else {
                    continue;
                };
                if of_prefix.contains(&cid) {
                    continue;
                }
                of_prefix.push(cid);
            }
            if let Some(slot) = places.get_mut(kept) {
                *slot = place;
                kept = kept.saturating_add(1);
            }
        }
        places.truncate(kept);
        places.shrink_to_fit();
        index.places = places;
        index.fill_buckets();
        Ok((root, index))
    }

    /// Fills the buckets, with about one place per bucket.
    fn fill_buckets(&mut self) {
        let bits = self.places.len().checked_ilog2().unwrap_or(0).clamp(1, 24);
        self.shift = 64u32.saturating_sub(bits);
        // As many as there are places at most, and one for the end.
        self.buckets
            .reserve_exact(1usize.checked_shl(bits).unwrap_or(0).saturating_add(1));
        let mut next = 0u64;
        for (at, (prefix, _)) in self.places.iter().enumerate() {
            while next <= prefix >> self.shift {
                self.buckets.push(u32::try_from(at).unwrap_or(u32::MAX));
                next = next.saturating_add(1);
            }
        }
        let end = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        while next <= 1 << bits {
            self.buckets.push(end);
            next = next.saturating_add(1);
        }
    }

    /// The places whose prefix may be `wanted`.
    #[inline]
    fn bucket(&self, wanted: u64) -> &[(u64, u64)] {
        let at = usize::try_from(wanted >> self.shift).unwrap_or(usize::MAX);
        let bound = |at: usize| {
            self.buckets
                .get(at)
                .and_then(|bound| usize::try_from(*bound).ok())
        };
        bound(at)
            .zip(bound(at.saturating_add(1)))
            .and_then(|(from, to)| self.places.get(from..to))
            .unwrap_or_default()
    }

    /// The section at an offset that [`Blocks`] returned.
    #[inline]
    fn read_at(&self, at: u64) -> Option<(Cid, &[u8])> {
        let mut section = Blocks {
            car: self.car.as_ref(),
            at: usize::try_from(at).ok()?,
        };
        let (cid, _, bytes) = section.section().ok()??;
        Some((cid, bytes))
    }

    /// The bytes of a block, or `None` if the CAR does not contain it.
    #[must_use]
    #[inline]
    pub fn get(&self, cid: &Cid) -> Option<&[u8]> {
        let wanted = prefix(cid);
        let bucket = self.bucket(wanted);
        let first = bucket.partition_point(|&(p, _)| p < wanted);
        for &(found, at) in bucket.get(first..)? {
            if found != wanted {
                return None;
            }
            let (found, bytes) = self.read_at(at)?;
            if found == *cid {
                return Some(bytes);
            }
        }
        None
    }

    /// Number of blocks; each CID counts once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether the CAR contains no block.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Memory that the index uses in addition to the CAR, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        index_bytes(self.places.len())
    }

    /// The CAR itself.
    #[must_use]
    pub fn car(&self) -> &C {
        &self.car
    }

    /// Returns the CAR.
    #[must_use]
    pub fn into_car(self) -> C {
        self.car
    }
}

fn prefix(cid: &Cid) -> u64 {
    cid.digest()
        .first_chunk::<8>()
        .map_or(0, |head| u64::from_be_bytes(*head))
}
