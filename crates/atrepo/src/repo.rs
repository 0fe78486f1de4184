//! A whole repo in memory or in a mapped file: checked first, read afterwards.

use crate::car::BlockIndex;
use crate::cbor::{self, CborError, Item};
use crate::cid::{Cid, Codec};
use crate::commit::Commit;
use crate::error::{RecordError, RepoError};
use crate::limits::{MAX_COMMIT_BYTES, MAX_RECORD_BYTES, SHARED_TIMES};
use crate::{mst, syntax};

/// Total size of records that a CAR of any size may reach: a small CAR costs little, however often
/// its records are read.
const SHARED_BYTES: usize = 64 << 10;

/// A repo whose blocks have all been hashed, with the bytes of its CAR.
pub struct Repo<C> {
    commit_cid: Cid,
    commit: Commit,
    blocks: BlockIndex<C>,
}

/// What a complete repo holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepoSummary {
    /// Entries of the tree.
    pub entries: u64,
    /// Entries that are not records; see [`Entry`].
    pub unusable: u64,
    /// Blocks in the CAR.
    pub blocks: u64,
}

/// Size of the tree of a complete repo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepoSize {
    /// Entries of the tree.
    pub entries: usize,
    /// Number of entries in the collection that has the most.
    pub most_of_a_collection: usize,
    /// Maximum total length of the keys of one collection, in bytes.
    pub key_bytes: usize,
}

/// An entry of the tree, and whether it is a record.
pub enum Entry<'e, 'a> {
    /// A record in canonical DAG-CBOR under a valid key.
    Record {
        /// Its collection, an NSID.
        collection: &'e str,
        /// Its record key.
        rkey: &'e str,
        /// Its CID.
        cid: Cid,
        /// Its value.
        value: Item<'a>,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// The key is not `collection/rkey`.
    BadKey {
        /// The key.
        key: &'e [u8],
        /// CID of what it points to.
        cid: Cid,
    },
    /// The block is not a record: it is not canonical DAG-CBOR, its CID names another codec, or it
    /// exceeds a limit.
    BadRecord {
        /// The key, `collection/rkey`.
        key: &'e [u8],
        /// CID of the record.
        cid: Cid,
        /// What is wrong with it.
        error: RecordError,
    },
}

impl<'e, 'a> Entry<'e, 'a> {
    /// Classifies an entry whose block is `bytes`. The hash is not checked.
    #[must_use]
    pub fn of(key: &'e [u8], cid: Cid, bytes: &'a [u8]) -> Self {
        Self::after(key, cid, bytes, "")
    }

    /// As [`Entry::of`], after an entry of the collection `before`.
    fn after(key: &'e [u8], cid: Cid, bytes: &'a [u8], before: &str) -> Self {
        let Some((collection, rkey)) = syntax::split_key_like(key, before) else {
            return Self::BadKey { key, cid };
        };
        if bytes.len() > MAX_RECORD_BYTES {
            let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            return Self::unread(key, cid, RecordError::TooLarge { bytes });
        }
        let checked = match cid.codec() {
            Codec::DagCbor => cbor::check(bytes),
            Codec::Raw => Err(CborError {
                at: 0,
                rule: "the CID says raw bytes",
            }),
        };
        let checked = checked.and_then(|item| match item.as_map() {
            Some(_) => Ok(item),
            None => Err(CborError {
                at: 0,
                rule: "a record that is no map",
            }),
        });
        match checked {
            Ok(value) => Self::Record {
                collection,
                rkey,
                cid,
                value,
                bytes,
            },
            Err(error) => Self::unread(key, cid, error.into()),
        }
    }

    /// Classifies an entry whose block is not read because of `error`.
    #[must_use]
    pub fn unread(key: &'e [u8], cid: Cid, error: RecordError) -> Self {
        match syntax::split_key(key) {
            Some(_) => Self::BadRecord { key, cid, error },
            None => Self::BadKey { key, cid },
        }
    }
}

impl<C: AsRef<[u8]>> Repo<C> {
    /// Reads `car`, hashes all blocks and checks the commit against `did`. The tree is not read
    /// yet.
    ///
    /// # Errors
    /// See [`RepoError`].
    pub fn open(car: C, did: &str) -> Result<Self, RepoError> {
        Self::open_within(car, did, |_| Ok(()), |_, _| ())
    }

    /// As [`Repo::open`], with two callbacks. `admit` gets the size of the block index in bytes
    /// before it is allocated. `progress` gets the offset of each block before it is read, twice
    /// over, so that the owner of a mapped file can release the pages that were read.
    ///
    /// # Errors
    /// See [`RepoError`]; or the error that `admit` returns.
    pub fn open_within<E: From<RepoError>>(
        car: C,
        did: &str,
        admit: impl FnOnce(usize) -> Result<(), E>,
        progress: impl FnMut(&C, usize),
    ) -> Result<Self, E> {
        let (commit_cid, blocks) = BlockIndex::build_within(car, admit, progress)?;
        let block = blocks
            .get(&commit_cid)
            .ok_or(RepoError::Missing(commit_cid))?;
        if commit_cid.codec() != Codec::DagCbor {
            return Err(RepoError::Commit("its CID does not say DAG-CBOR").into());
        }
        if block.len() > MAX_COMMIT_BYTES {
            return Err(RepoError::CommitTooLarge { bytes: block.len() }.into());
        }
        let commit = Commit::parse(block).map_err(RepoError::Commit)?;
        if commit.did != did {
            return Err(RepoError::OtherDid { found: commit.did }.into());
        }
        Ok(Self {
            commit_cid,
            commit,
            blocks,
        })
    }

    /// Walks the whole tree and checks that every rule of the MST holds and that every record is
    /// there.
    ///
    /// # Errors
    /// The first node or record that is missing or wrong.
    pub fn check(&self) -> Result<RepoSummary, RepoError> {
        self.check_watched(|_| ())
    }

    /// As [`Repo::check`]; calls `watch` before each entry.
    ///
    /// # Errors
    /// As [`Repo::check`].
    pub fn check_watched(&self, mut watch: impl FnMut(&C)) -> Result<RepoSummary, RepoError> {
        let mut summary = RepoSummary {
            blocks: u64::try_from(self.blocks.len()).unwrap_or(u64::MAX),
            ..RepoSummary::default()
        };
        self.entries(|entry| -> Result<(), RepoError> {
            watch(self.car());
            summary.entries = summary.entries.saturating_add(1);
            if !matches!(entry, Entry::Record { .. }) {
                summary.unusable = summary.unusable.saturating_add(1);
            }
            Ok(())
        })?;
        Ok(summary)
    }

    /// Walks the whole tree without reading records: checks that it is complete and in order, and
    /// measures it. Calls `watch` before each entry.
    ///
    /// # Errors
    /// As [`Repo::check`]; or the error that `watch` returns.
    pub fn measure<E: From<RepoError>>(
        &self,
        mut watch: impl FnMut(&C) -> Result<(), E>,
    ) -> Result<RepoSize, E> {
        let (mut size, mut entries, mut key_bytes) = (RepoSize::default(), 0usize, 0usize);
        let mut collection = Vec::new();
        self.raw_entries(|key, _, _| -> Result<(), E> {
            watch(self.car())?;
            let of_key = key.split(|byte| *byte == b'/').next().unwrap_or_default();
            if collection != of_key {
                (entries, key_bytes) = (0, 0);
                collection.clear();
                collection.extend_from_slice(of_key);
            }
            size.entries = size.entries.saturating_add(1);
            entries = entries.saturating_add(1);
            key_bytes = key_bytes.saturating_add(key.len());
            size.most_of_a_collection = size.most_of_a_collection.max(entries);
            size.key_bytes = size.key_bytes.max(key_bytes);
            Ok(())
        })?;
        Ok(size)
    }

    /// Passes every entry to `each`, in key order.
    ///
    /// # Errors
    /// As [`Repo::check`]; or the error that `each` returns.
    pub fn entries<'a, E: From<RepoError>>(
        &'a self,
        mut each: impl FnMut(Entry<'_, 'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut before = String::new();
        self.leaves(|key, cid, block| {
            let entry = match block {
                Ok(bytes) => Entry::after(key, cid, bytes, &before),
                Err(error) => Entry::unread(key, cid, error),
            };
            if let Entry::Record { collection, .. } = entry
                && collection != before
            {
                before = collection.to_owned();
            }
            each(entry)
        })
    }

    /// Passes every entry to `each` as it is in the CAR, in key order: key, CID, and the block or
    /// the reason why it is not read.
    ///
    /// # Errors
    /// As [`Repo::check`]; or the error that `each` returns.
    pub fn raw_entries<E: From<RepoError>>(
        &self,
        each: impl FnMut(&[u8], Cid, Result<&[u8], RecordError>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.leaves(each)
    }

    fn leaves<'a, E: From<RepoError>>(
        &'a self,
        mut each: impl FnMut(&[u8], Cid, Result<&'a [u8], RecordError>) -> Result<(), E>,
    ) -> Result<(), E> {
        let car_bytes = self.blocks.car().as_ref().len();
        let most = car_bytes
            .saturating_mul(SHARED_TIMES)
            .saturating_add(SHARED_BYTES);
        let mut total = 0usize;
        mst::walk(
            self.commit.data,
            |cid| self.blocks.get(cid),
            |leaf| {
                let bytes = self
                    .blocks
                    .get(&leaf.cid)
                    .ok_or(RepoError::Missing(leaf.cid))?;
                let size = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
                if bytes.len() > MAX_RECORD_BYTES {
                    let bytes = size(bytes.len());
                    return each(leaf.key, leaf.cid, Err(RecordError::TooLarge { bytes }));
                }
                let with_this = total.saturating_add(bytes.len());
                if with_this > most {
                    let bytes = size(with_this);
                    return each(leaf.key, leaf.cid, Err(RecordError::Shared { bytes }));
                }
                total = with_this;
                each(leaf.key, leaf.cid, Ok(bytes))
            },
        )
    }

    /// Number of blocks.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Memory that the block index uses, in bytes.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.blocks.memory_bytes()
    }

    /// The bytes that the repo was read from.
    #[must_use]
    pub fn car(&self) -> &C {
        self.blocks.car()
    }

    /// Returns the bytes that the repo was read from.
    #[must_use]
    pub fn into_car(self) -> C {
        self.blocks.into_car()
    }

    /// The account.
    #[must_use]
    pub fn did(&self) -> &str {
        &self.commit.did
    }

    /// CID of the commit.
    #[must_use]
    pub fn commit_cid(&self) -> Cid {
        self.commit_cid
    }

    /// The commit.
    #[must_use]
    pub fn commit(&self) -> &Commit {
        &self.commit
    }
}
