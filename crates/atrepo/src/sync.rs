//! Checks commits of event streams (`com.atproto.sync.subscribeRepos`) as Sync 1.1 asks, all but
//! their signatures (<https://atproto.com/specs/sync>).
//!
//! A commit event claims that some operations led from one state of a repo to the next. It comes
//! with a slice of the new state: the commit, the records that were written, and the nodes of the
//! tree around each operation. [`check_commit`] hashes every block, reads the commit, finds each
//! operation in the tree, takes all of them back, and compares the root that comes out with the
//! one that the event says the repo had before. Who knows that root already, and checks the
//! signature ([`CheckedCommit::signed`]), then knows that exactly these operations were made:
//! none is left out, none is made up.
//!
//! The reference is `VerifyCommitMessage` in indigo's `atproto/repo/sync.go`. Unlike that, which
//! lets such commits pass, a commit without `prevData` passes here only as the first of its repo.

mod error;

pub use error::{OpFault, SyncError};

use crate::car::BlockIndex;
use crate::cid::{Cid, Codec};
use crate::commit::Commit;
use crate::error::RepoError;
use crate::limits::{MAX_COMMIT_BYTES, MAX_OPS, MAX_SLICE_BYTES};
use crate::mst::{self, Change, InvertError};
use crate::mst_builder::RootBuilder;
use bytes::Bytes;

/// What an operation does to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It creates the record.
    Create,
    /// It replaces the record.
    Update,
    /// It deletes the record.
    Delete,
}

impl Action {
    /// Its word in events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The action of a word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "create" => Some(Self::Create),
            "update" => Some(Self::Update),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// An operation, as an event claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// What it does.
    pub action: Action,
    /// Collection of the record, an NSID.
    pub collection: String,
    /// Key of the record.
    pub rkey: String,
    /// CID of the record after the commit.
    pub cid: Option<Cid>,
    /// CID of the record before the commit.
    pub prev: Option<Cid>,
}

impl Op {
    /// Its key in the tree.
    fn key(&self) -> String {
        let mut key = String::with_capacity(
            self.collection
                .len()
                .saturating_add(self.rkey.len())
                .saturating_add(1),
        );
        key.push_str(&self.collection);
        key.push('/');
        key.push_str(&self.rkey);
        key
    }

    /// The CIDs that its action asks for, after the commit and before it.
    fn values(&self) -> Result<(Option<Cid>, Option<Cid>), OpFault> {
        match (self.action, self.cid, self.prev) {
            (Action::Create, Some(now), None) => Ok((Some(now), None)),
            (Action::Update, Some(now), Some(before)) => Ok((Some(now), Some(before))),
            (Action::Delete, None, Some(before)) => Ok((None, Some(before))),
            (Action::Create, Some(_), Some(_)) => Err(OpFault::CreatesOverPrev),
            (Action::Create | Action::Update, None, _) => Err(OpFault::NoCid),
            (Action::Delete, Some(_), _) => Err(OpFault::DeletesToCid),
            (Action::Update | Action::Delete, _, None) => Err(OpFault::NoPrev),
        }
    }
}

/// What a commit event claims.
#[derive(Clone, Copy)]
pub struct Claim<'e> {
    /// The account.
    pub did: &'e str,
    /// Rev of the commit.
    pub rev: &'e str,
    /// Rev of the commit before it, if there was any.
    pub since: Option<&'e str>,
    /// CID of the commit.
    pub commit: Cid,
    /// Root of the tree before the commit.
    pub prev_data: Option<Cid>,
    /// The operations.
    pub ops: &'e [Op],
    /// The slice of the repo, a CAR.
    pub blocks: &'e Bytes,
    /// Whether the event says that it does not hold all of the commit, as older ones could.
    pub too_big: bool,
}

/// A commit whose operations were proved, up to its signature and to the root before it.
#[derive(Clone, Debug)]
pub struct CheckedCommit {
    /// CID of the commit.
    pub commit: Cid,
    /// The commit, with `did`, `rev`, `data` and all that a check of its signature needs
    /// ([`Commit::unsigned`] and [`Commit::sig`]).
    pub signed: Commit,
    /// Rev of the commit before it, as the event claims: nothing proves it.
    pub since: Option<String>,
    /// Root of the tree before the commit. `None` if the tree was empty and the event says so by
    /// leaving it out.
    pub prev_data: Option<Cid>,
    /// The operations, in the order of the event.
    pub ops: Vec<CheckedOp>,
}

impl CheckedCommit {
    /// The account.
    #[must_use]
    pub fn did(&self) -> &str {
        &self.signed.did
    }

    /// Rev of the commit.
    #[must_use]
    pub fn rev(&self) -> &str {
        &self.signed.rev
    }

    /// Root of the tree after the commit.
    #[must_use]
    pub fn data(&self) -> Cid {
        self.signed.data
    }

    /// Whether the commit follows a state whose root is `data`.
    #[must_use]
    pub fn follows(&self, data: &Cid) -> bool {
        match &self.prev_data {
            Some(prev) => prev == data,
            None => *data == empty_root(),
        }
    }
}

/// An operation that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedOp {
    /// What it does.
    pub action: Action,
    /// Collection of the record, an NSID.
    pub collection: String,
    /// Key of the record.
    pub rkey: String,
    /// CID of the record after the commit.
    pub cid: Option<Cid>,
    /// CID of the record before the commit.
    pub prev: Option<Cid>,
    /// The block under `cid`, whose hash was checked. Whether it is a record that can be read,
    /// [`crate::Entry::of`] says. It shares the memory of the event.
    pub record: Option<Bytes>,
}

/// Checks a commit event. The cost is linear in its bytes.
///
/// What is left to the caller: the signature, whether the state before is the one that the caller
/// has ([`CheckedCommit::follows`]), and whether the rev is later than that and not in the future.
///
/// # Errors
/// The first thing that is wrong. None of the event may be used then.
pub fn check_commit(claim: &Claim<'_>) -> Result<CheckedCommit, SyncError> {
    if claim.too_big {
        return Err(SyncError::TooBig);
    }
    if claim.ops.len() > MAX_OPS {
        let count = claim.ops.len();
        return Err(SyncError::TooManyOps { count });
    }
    let (root, blocks) = open(claim.blocks)?;
    if root != claim.commit {
        return Err(SyncError::OtherCommit { found: root });
    }
    let signed = read_commit(root, &blocks, claim.did, claim.rev)?;
    if claim.since.is_some_and(|since| since >= claim.rev) {
        return Err(SyncError::RevOrder);
    }
    let ops = claim
        .ops
        .iter()
        .map(|op| checked(op, &blocks, claim.blocks))
        .collect::<Result<Vec<CheckedOp>, _>>()?;
    let records = ops.iter().filter_map(|op| op.record.as_ref());
    let bytes = records.map(Bytes::len).sum();
    if bytes > claim.blocks.len() {
        return Err(SyncError::Shared { bytes });
    }
    let before = root_before(signed.data, claim.ops, |cid| blocks.get(cid))?;
    if before != claim.prev_data.unwrap_or_else(empty_root) {
        return Err(match claim.prev_data {
            Some(_) => SyncError::OtherPrevData { found: before },
            None => SyncError::NoPrevData { found: before },
        });
    }
    Ok(CheckedCommit {
        commit: root,
        signed,
        since: claim.since.map(str::to_owned),
        prev_data: claim.prev_data,
        ops,
    })
}

/// Checks a sync event, which says that the repo of `did` is at `rev` and holds the commit alone;
/// returns the CID of the commit and the commit.
///
/// # Errors
/// The first thing that is wrong.
pub fn check_sync(did: &str, rev: &str, blocks: &Bytes) -> Result<(Cid, Commit), SyncError> {
    let (root, index) = open(blocks)?;
    let commit = read_commit(root, &index, did, rev)?;
    Ok((root, commit))
}

/// The root of a tree without keys.
#[must_use]
pub fn empty_root() -> Cid {
    RootBuilder::default().root()
}

fn open(blocks: &Bytes) -> Result<(Cid, BlockIndex<&[u8]>), SyncError> {
    if blocks.len() > MAX_SLICE_BYTES {
        let bytes = blocks.len();
        return Err(SyncError::TooLarge { bytes });
    }
    BlockIndex::build(&blocks[..]).map_err(SyncError::Slice)
}

/// The commit of a slice, if it is that of `did` at `rev`.
fn read_commit(
    root: Cid,
    blocks: &BlockIndex<&[u8]>,
    did: &str,
    rev: &str,
) -> Result<Commit, SyncError> {
    let block = blocks
        .get(&root)
        .ok_or(SyncError::Slice(RepoError::Missing(root)))?;
    if root.codec() != Codec::DagCbor {
        return Err(SyncError::Commit("its CID does not say DAG-CBOR"));
    }
    if block.len() > MAX_COMMIT_BYTES {
        return Err(SyncError::Commit("it has more than 4096 bytes"));
    }
    let commit = Commit::parse(block).map_err(SyncError::Commit)?;
    if commit.did != did {
        return Err(SyncError::OtherDid { found: commit.did });
    }
    if commit.rev != rev {
        return Err(SyncError::OtherRev { found: commit.rev });
    }
    Ok(commit)
}

/// An operation with its record.
fn checked(op: &Op, blocks: &BlockIndex<&[u8]>, slice: &Bytes) -> Result<CheckedOp, SyncError> {
    let record = match op.cid {
        None => None,
        Some(cid) => {
            let Some(block) = blocks.get(&cid) else {
                let key = op.key();
                return Err(SyncError::MissingRecord { key, cid });
            };
            Some(slice.slice_ref(block))
        }
    };
    Ok(CheckedOp {
        action: op.action,
        collection: op.collection.clone(),
        rkey: op.rkey.clone(),
        cid: op.cid,
        prev: op.prev,
        record,
    })
}

/// The root that a tree had before `ops`, which led to `root`. `get` has the nodes around the keys
/// of the operations.
///
/// # Errors
/// An operation contradicts itself, another one or the tree, or a node is missing or breaks a rule.
pub fn root_before<'a>(
    root: Cid,
    ops: &[Op],
    get: impl Fn(&Cid) -> Option<&'a [u8]>,
) -> Result<Cid, SyncError> {
    let mut changes = Vec::with_capacity(ops.len());
    for op in ops {
        let key = op.key();
        match op.values() {
            Ok((now, before)) => changes.push((key, now, before)),
            Err(fault) => return Err(SyncError::Op { key, fault }),
        }
    }
    changes.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let twice = changes.windows(2).find_map(|pair| match pair {
        [(a, ..), (b, ..)] if a == b => Some(a.clone()),
        _ => None,
    });
    if let Some(key) = twice {
        let fault = OpFault::Twice;
        return Err(SyncError::Op { key, fault });
    }
    let sorted: Vec<Change<'_>> = changes
        .iter()
        .map(|(key, now, before)| Change {
            key: key.as_bytes(),
            now: *now,
            before: *before,
        })
        .collect();
    mst::previous_root(root, &sorted, get).map_err(|error| {
        let key = |at: usize| changes.get(at).map(|change| change.0.clone());
        describe(error, |at| key(at).unwrap_or_default())
    })
}

fn describe(error: InvertError, key: impl Fn(usize) -> String) -> SyncError {
    let op = |at, fault| SyncError::Op {
        key: key(at),
        fault,
    };
    match error {
        InvertError::Absent(at) => op(at, OpFault::NotInTree),
        InvertError::Present(at) => op(at, OpFault::StillInTree),
        InvertError::Other(at, found) => op(at, OpFault::OtherInTree { found }),
        InvertError::Missing(cid) => SyncError::MissingNode(cid),
        InvertError::Rule(node, rule) => SyncError::Node { node, rule },
    }
}
