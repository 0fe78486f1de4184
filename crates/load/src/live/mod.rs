//! Applies single commits of the event stream to the tables, a batch of many repos per transaction.
//!
//! A commit is applied if it continues what is stored: its operations begin at the root of the
//! stored commit. Then the tables hold what its own root stands for. Everything else is left to a
//! merge of the whole repo ([`ledger::follow::Behind`]).
//!
//! Of several operations on one record in a batch, the last one counts. The rows of what came and
//! changed are made as a load makes them (`making`). Which of two records with one unique key is
//! the duplicate depends on records that the batch does not name, so the holders of the keys at
//! hand are read, and their rows are made again where a batch makes or takes away a duplicate
//! (`rivals`). The SQL that then changes the tables is that of a merge (`replace`).
//!
//! A batch is some 90 statements, whatever its size. It is divided where its records exceed
//! `apply::MOST_BYTES`, since their rows are made in memory.

mod apply;
mod making;
mod rivals;

pub use apply::{Applied, Applier, ApplierOptions};

use atrepo::Cid;
use bytes::Bytes;

/// A commit whose signature and operations were checked.
#[derive(Clone, Debug)]
pub struct LiveCommit {
    /// The account.
    pub did: String,
    /// Its rev.
    pub rev: String,
    /// CID of the commit.
    pub commit_cid: Cid,
    /// The commit's block.
    pub commit: Vec<u8>,
    /// The root of its tree.
    pub data: Cid,
    /// The root of the tree that its operations begin at.
    pub prev_data: Cid,
    /// The time of its event, as `indexedAt` has it.
    pub time: String,
    /// What it did.
    pub ops: Vec<LiveOp>,
    /// URL and name of the host that the account's document names.
    pub at: (String, String),
}

/// What a commit did to a record.
#[derive(Clone, Debug)]
pub struct LiveOp {
    /// `collection/rkey`.
    pub key: String,
    /// Whether the record was there before.
    pub existed: bool,
    /// CID and block of the record, which shares the memory of the event; none if it is gone.
    pub now: Option<(Cid, Bytes)>,
}

impl LiveCommit {
    /// Size of what it holds, in bytes: memory that it uses, if nothing is shared.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let ops = self.ops.iter().map(|op| {
            let block = op.now.as_ref().map_or(0, |(_, block)| block.len());
            size_of::<LiveOp>() + op.key.len() + block
        });
        size_of::<Self>() + self.commit.len() + 3 * self.did.len() + ops.sum::<usize>()
    }
}
