//! Everything that can be wrong with a repo or a record, one variant each. An error about a size
//! names the size and the limit.

use crate::cbor::CborError;
use crate::cid::Cid;
use std::fmt;

/// Why a record is not read. The record is skipped; its repo is not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// It is not canonical DAG-CBOR.
    Cbor(CborError),
    /// It is larger than [`crate::MAX_RECORD_BYTES`].
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Records that share blocks, each counted under its own key, have a total size far above that
    /// of the CAR: up to this record, more than [`crate::SHARED_TIMES`] times as much.
    Shared {
        /// Total size of the records up to this one.
        bytes: u64,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cbor(error) => error.fmt(f),
            Self::TooLarge { bytes } => write!(
                f,
                "the record has {bytes} bytes, more than the limit of {}",
                crate::MAX_RECORD_BYTES
            ),
            Self::Shared { bytes } => write!(
                f,
                "records that share their blocks come to {bytes} bytes up to this one, more than the limit of {} \
                 times the CAR",
                crate::SHARED_TIMES
            ),
        }
    }
}

impl std::error::Error for RecordError {}

impl From<CborError> for RecordError {
    fn from(error: CborError) -> Self {
        Self::Cbor(error)
    }
}

/// Why a repo is refused as a whole. A record that is wrong in itself does not refuse its repo.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepoError {
    /// There are no bytes.
    Empty,
    /// The CAR ends inside a section.
    Truncated {
        /// Offset at which the broken section begins.
        at: usize,
    },
    /// The CAR header is not CBOR, or is not a version 1 header with one root.
    Header(&'static str),
    /// The CAR header is longer than [`crate::MAX_HEADER_BYTES`].
    HeaderTooLarge {
        /// The length that it claims.
        claimed: u64,
    },
    /// The length of the header or of a section is not a number, and more bytes would not make it
    /// one.
    Length {
        /// Offset of the length.
        at: usize,
        /// What is there instead.
        what: &'static str,
    },
    /// A section is larger than [`crate::MAX_SECTION_BYTES`].
    SectionTooLarge {
        /// Offset of the section.
        at: usize,
        /// The length that it claims.
        claimed: u64,
    },
    /// A node of the tree is larger than [`crate::MAX_NODE_BYTES`].
    NodeTooLarge {
        /// The node.
        node: Cid,
        /// Its size.
        bytes: usize,
    },
    /// There are more than [`crate::MAX_BLOCKS`] sections.
    TooManyBlocks,
    /// There is more than one section for [`crate::LEAST_SECTION_BYTES`] bytes.
    TinySections {
        /// Bytes of the CAR.
        bytes: usize,
    },
    /// The commit's block is larger than [`crate::MAX_COMMIT_BYTES`].
    CommitTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A section does not begin with a CIDv1 of SHA-256.
    BlockName {
        /// Offset of the section.
        at: usize,
    },
    /// The bytes of a block do not hash to its CID.
    HashMismatch(Cid),
    /// A block that the tree or the header names is not in the CAR.
    Missing(Cid),
    /// The commit block is not a well-formed version 3 commit.
    Commit(&'static str),
    /// The commit belongs to another account than the requested one.
    OtherDid {
        /// The DID in the commit.
        found: String,
    },
    /// A block of the tree breaks a rule of the MST.
    Mst {
        /// The node.
        node: Cid,
        /// The rule.
        rule: &'static str,
    },
}

impl RepoError {
    /// Whether a second fetch may bring another result: the bytes look cut off, or are not a CAR.
    #[must_use]
    pub fn may_be_transport(&self) -> bool {
        match self {
            Self::Empty
            | Self::Truncated { .. }
            | Self::Header(_)
            | Self::HeaderTooLarge { .. }
            | Self::Missing(_)
            | Self::HashMismatch(_) => true,
            Self::Length { .. }
            | Self::SectionTooLarge { .. }
            | Self::NodeTooLarge { .. }
            | Self::TooManyBlocks
            | Self::TinySections { .. }
            | Self::CommitTooLarge { .. }
            | Self::BlockName { .. }
            | Self::Commit(_)
            | Self::OtherDid { .. }
            | Self::Mst { .. } => false,
        }
    }
}

impl fmt::Display for RepoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the CAR is empty"),
            Self::Truncated { at } => write!(f, "the CAR ends inside the section at byte {at}"),
            Self::Header(what) => write!(f, "CAR header: {what}"),
            Self::HeaderTooLarge { claimed } => write!(
                f,
                "the CAR header claims {claimed} bytes, more than the limit of {}",
                crate::MAX_HEADER_BYTES
            ),
            Self::Length { at, what } => write!(f, "the CAR has {what} at byte {at}"),
            Self::SectionTooLarge { at, claimed } => write!(
                f,
                "the section at byte {at} claims {claimed} bytes, more than the limit of {}",
                crate::MAX_SECTION_BYTES
            ),
            Self::NodeTooLarge { node, bytes } => write!(
                f,
                "MST node {node} has {bytes} bytes, more than the limit of {}",
                crate::MAX_NODE_BYTES
            ),
            Self::TooManyBlocks => {
                write!(f, "the CAR has more than {} sections", crate::MAX_BLOCKS)
            }
            Self::TinySections { bytes } => write!(
                f,
                "the CAR of {bytes} bytes has more than one section for {} bytes: blocks that nothing refers to, or the same ones again",
                crate::LEAST_SECTION_BYTES
            ),
            Self::CommitTooLarge { bytes } => write!(
                f,
                "the commit has {bytes} bytes, more than the limit of {}",
                crate::MAX_COMMIT_BYTES
            ),
            Self::BlockName { at } => write!(f, "the section at byte {at} has no CIDv1 of SHA-256"),
            Self::HashMismatch(cid) => write!(f, "the bytes of block {cid} have another hash"),
            Self::Missing(cid) => write!(f, "block {cid} is missing"),
            Self::Commit(what) => write!(f, "commit: {what}"),
            Self::OtherDid { found } => write!(f, "the commit belongs to {found}"),
            Self::Mst { node, rule } => write!(f, "MST node {node}: {rule}"),
        }
    }
}

impl std::error::Error for RepoError {}
