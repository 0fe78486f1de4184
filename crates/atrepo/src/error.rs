//! What an outsider can get wrong in a repo, one variant each.

use crate::cid::Cid;
use std::fmt;

/// Why a repo was refused as a whole. A record that is wrong in itself does not refuse its repo.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepoError {
    /// There is no byte at all.
    Empty,
    /// The CAR ends inside a section.
    Truncated {
        /// Offset at which the broken section begins.
        at: usize,
    },
    /// The CAR header is longer than [`crate::MAX_HEADER_BYTES`], is not CBOR, or is not a version 1 header with one root.
    Header(&'static str),
    /// A section is larger than [`crate::MAX_BLOCK_BYTES`].
    BlockTooLarge {
        /// Offset of the section.
        at: usize,
        /// The length that it claims.
        claimed: u64,
    },
    /// There are more than [`crate::MAX_BLOCKS`] sections.
    TooManyBlocks,
    /// The same large records stand under so many keys that the repo is far larger than its CAR.
    Amplified,
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
    /// The commit belongs to another account than the one asked for.
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
    /// Whether a second fetch may bring something else: the bytes look cut off or are no CAR at all.
    #[must_use]
    pub fn may_be_transport(&self) -> bool {
        match self {
            Self::Empty
            | Self::Truncated { .. }
            | Self::Header(_)
            | Self::Missing(_)
            | Self::HashMismatch(_) => true,
            Self::BlockTooLarge { .. }
            | Self::TooManyBlocks
            | Self::Amplified
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
            Self::BlockTooLarge { at, claimed } => {
                write!(f, "the section at byte {at} claims {claimed} bytes")
            }
            Self::TooManyBlocks => write!(f, "the CAR has more than {} sections", crate::MAX_BLOCKS),
            Self::Amplified => write!(
                f,
                "its records, each counted under each of its keys, are far larger than the CAR"
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
