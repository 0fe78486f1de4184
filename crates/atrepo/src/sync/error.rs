//! Everything that can be wrong with an event about a repo, one variant each.

use crate::cid::Cid;
use crate::error::RepoError;
use std::fmt;

/// What is wrong with one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpFault {
    /// A create or update without the CID of its record.
    NoCid,
    /// An update or delete without the CID of the record before it, as older events had them.
    NoPrev,
    /// A create of a record that was there.
    CreatesOverPrev,
    /// A delete that has a CID of a new record.
    DeletesToCid,
    /// Another operation is of the same record.
    Twice,
    /// The new tree does not have the record that it wrote.
    NotInTree,
    /// The new tree still has the record that it deleted.
    StillInTree,
    /// The new tree has another record than the one it wrote.
    OtherInTree {
        /// CID of the record in the tree.
        found: Cid,
    },
}

impl fmt::Display for OpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCid => f.write_str("it writes a record and has no cid"),
            Self::NoPrev => f.write_str("it has no prev"),
            Self::CreatesOverPrev => f.write_str("it creates a record and has a prev"),
            Self::DeletesToCid => f.write_str("it deletes a record and has a cid"),
            Self::Twice => f.write_str("two operations of one record"),
            Self::NotInTree => f.write_str("the new tree does not have the record"),
            Self::StillInTree => f.write_str("the new tree still has the record"),
            Self::OtherInTree { found } => write!(f, "the new tree has the record {found}"),
        }
    }
}

/// Why an event about a repo is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncError {
    /// The event says that it does not hold all of the commit.
    TooBig,
    /// The slice is larger than [`crate::MAX_SLICE_BYTES`].
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// There are more than [`crate::MAX_OPS`] operations.
    TooManyOps {
        /// Their number.
        count: usize,
    },
    /// The slice is no CAR, a block has another hash, or the commit is not in it.
    Slice(RepoError),
    /// The commit's block is no well-formed commit.
    Commit(&'static str),
    /// The slice is that of another commit.
    OtherCommit {
        /// Root of the slice.
        found: Cid,
    },
    /// The commit belongs to another account.
    OtherDid {
        /// The DID in the commit.
        found: String,
    },
    /// The commit has another rev.
    OtherRev {
        /// The rev in the commit.
        found: String,
    },
    /// The rev before the commit is not before it.
    RevOrder,
    /// An operation contradicts itself or the tree.
    Op {
        /// Key of the record, `collection/rkey`.
        key: String,
        /// What is wrong.
        fault: OpFault,
    },
    /// Operations write the same block so often that their records are larger than the slice.
    Shared {
        /// Size of all records.
        bytes: usize,
    },
    /// A record that was written is not in the slice.
    MissingRecord {
        /// Key of the record, `collection/rkey`.
        key: String,
        /// Its CID.
        cid: Cid,
    },
    /// A node that the proof needs is not in the slice.
    MissingNode(Cid),
    /// A node of the tree breaks a rule of the MST.
    Node {
        /// The node.
        node: Cid,
        /// The rule.
        rule: &'static str,
    },
    /// Without its operations, the tree is another one than the event says.
    OtherPrevData {
        /// Root of the tree without the operations.
        found: Cid,
    },
    /// The event does not say what the tree was before, and it was not empty.
    NoPrevData {
        /// Root of the tree without the operations.
        found: Cid,
    },
}

impl SyncError {
    /// A short name for counts, the same for all errors of a kind.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooBig => "too big",
            Self::TooLarge { .. } => "slice too large",
            Self::TooManyOps { .. } => "too many operations",
            Self::Slice(_) => "bad slice",
            Self::Commit(_) => "bad commit",
            Self::OtherCommit { .. } => "other commit",
            Self::OtherDid { .. } => "other account",
            Self::OtherRev { .. } => "other rev",
            Self::RevOrder => "revs out of order",
            Self::Op { .. } => "bad operation",
            Self::Shared { .. } => "shared blocks",
            Self::MissingRecord { .. } => "missing record",
            Self::MissingNode(_) => "missing node",
            Self::Node { .. } => "bad node",
            Self::OtherPrevData { .. } => "other state before",
            Self::NoPrevData { .. } => "no state before",
        }
    }
}

impl fmt::Display for SyncError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooBig => write!(f, "the event says that it does not hold all of the commit"),
            Self::TooLarge { bytes } => write!(
                f,
                "the slice has {bytes} bytes, more than the limit of {}",
                crate::MAX_SLICE_BYTES
            ),
            Self::TooManyOps { count } => write!(
                f,
                "the event has {count} operations, more than the limit of {}",
                crate::MAX_OPS
            ),
            Self::Slice(error) => error.fmt(f),
            Self::Commit(what) => write!(f, "commit: {what}"),
            Self::OtherCommit { found } => write!(f, "the slice is that of the commit {found}"),
            Self::OtherDid { found } => write!(f, "the commit belongs to {found}"),
            Self::OtherRev { found } => write!(f, "the commit has the rev {found}"),
            Self::RevOrder => write!(f, "the rev before the commit is not before it"),
            Self::Op { key, fault } => write!(f, "operation on {key}: {fault}"),
            Self::Shared { bytes } => write!(
                f,
                "operations share blocks: their records have {bytes} bytes, more than the slice"
            ),
            Self::MissingRecord { key, cid } => {
                write!(f, "the record {cid} of {key} is not in the slice")
            }
            Self::MissingNode(cid) => write!(f, "the MST node {cid} is not in the slice"),
            Self::Node { node, rule } => write!(f, "MST node {node}: {rule}"),
            Self::OtherPrevData { found } => write!(
                f,
                "without its operations the tree is {found}, not the one of prevData"
            ),
            Self::NoPrevData { found } => write!(
                f,
                "there is no prevData, and without its operations the tree is {found}, not empty"
            ),
        }
    }
}

impl std::error::Error for SyncError {}
