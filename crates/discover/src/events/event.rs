//! The events of a stream.

use atrepo::Cid;
use atrepo::sync::{Claim, Op};
use bytes::Bytes;

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A commit of a repo.
    Commit(CommitEvent),
    /// The present state of a repo, whatever was told before.
    Sync(SyncEvent),
    /// Something changed in the DID document of an account, or in its handle.
    Identity(IdentityEvent),
    /// The state of an account at the host that sends the event.
    Account(AccountEvent),
    /// Something about the stream itself.
    Info(InfoEvent),
}

impl Event {
    /// Its sequence number; an [`InfoEvent`] has none.
    #[must_use]
    pub fn seq(&self) -> Option<i64> {
        match self {
            Self::Commit(event) => Some(event.seq),
            Self::Sync(event) => Some(event.seq),
            Self::Identity(event) => Some(event.seq),
            Self::Account(event) => Some(event.seq),
            Self::Info(_) => None,
        }
    }

    /// The account that it is about.
    #[must_use]
    pub fn did(&self) -> Option<&str> {
        match self {
            Self::Commit(event) => Some(&event.did),
            Self::Sync(event) => Some(&event.did),
            Self::Identity(event) => Some(&event.did),
            Self::Account(event) => Some(&event.did),
            Self::Info(_) => None,
        }
    }

    /// When it was sent first, as its sender writes times: nothing proves it.
    #[must_use]
    pub fn time(&self) -> Option<&str> {
        match self {
            Self::Commit(event) => Some(&event.time),
            Self::Sync(event) => Some(&event.time),
            Self::Identity(event) => Some(&event.time),
            Self::Account(event) => Some(&event.time),
            Self::Info(_) => None,
        }
    }
}

/// A commit of a repo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitEvent {
    /// Sequence number.
    pub seq: i64,
    /// The account.
    pub did: String,
    /// When it was sent first.
    pub time: String,
    /// Rev of the commit.
    pub rev: String,
    /// Rev of the commit before it.
    pub since: Option<String>,
    /// CID of the commit.
    pub commit: Cid,
    /// Root of the tree before the commit.
    pub prev_data: Option<Cid>,
    /// What the commit does to records.
    pub ops: Vec<Op>,
    /// The slice of the repo, a CAR. It shares the memory of the frame.
    pub blocks: Bytes,
    /// Whether the event does not hold all of the commit, as older ones could say.
    pub too_big: bool,
}

impl CommitEvent {
    /// What it claims, for [`atrepo::sync::check_commit`].
    #[must_use]
    pub fn claim(&self) -> Claim<'_> {
        Claim {
            did: &self.did,
            rev: &self.rev,
            since: self.since.as_deref(),
            commit: self.commit,
            prev_data: self.prev_data,
            ops: &self.ops,
            blocks: &self.blocks,
            too_big: self.too_big,
        }
    }
}

/// The present state of a repo. [`atrepo::sync::check_sync`] reads its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncEvent {
    /// Sequence number.
    pub seq: i64,
    /// The account.
    pub did: String,
    /// When it was sent first.
    pub time: String,
    /// Rev of the commit.
    pub rev: String,
    /// A CAR that holds the commit. It shares the memory of the frame.
    pub blocks: Bytes,
}

/// Something changed in the DID document of an account, or in its handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityEvent {
    /// Sequence number.
    pub seq: i64,
    /// The account.
    pub did: String,
    /// When it was sent first.
    pub time: String,
    /// Its handle, as the sender says, if it is a well-formed one.
    pub handle: Option<String>,
}

/// The state of an account at the host that sends the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEvent {
    /// Sequence number.
    pub seq: i64,
    /// The account.
    pub did: String,
    /// When it was sent first.
    pub time: String,
    /// Whether its repo can be fetched from the sender.
    pub active: bool,
    /// Why it is not active, if it is not and the sender says why.
    pub status: Option<AccountStatus>,
}

/// Why an account is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccountStatus {
    /// Its host took it down.
    Takendown,
    /// Its host suspended it.
    Suspended,
    /// It is deleted.
    Deleted,
    /// Its owner deactivated it.
    Deactivated,
    /// The sender's copy of it is not up to date; says nothing about the account.
    Desynchronized,
    /// The sender slows it down; says nothing about the account.
    Throttled,
    /// A word that the lexicon does not know.
    Other,
}

impl AccountStatus {
    /// Its word in events; `other` for [`AccountStatus::Other`].
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Takendown => "takendown",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
            Self::Deactivated => "deactivated",
            Self::Desynchronized => "desynchronized",
            Self::Throttled => "throttled",
            Self::Other => "other",
        }
    }

    /// The status of a word.
    #[must_use]
    pub fn parse(word: &str) -> Self {
        match word {
            "takendown" => Self::Takendown,
            "suspended" => Self::Suspended,
            "deleted" => Self::Deleted,
            "deactivated" => Self::Deactivated,
            "desynchronized" => Self::Desynchronized,
            "throttled" => Self::Throttled,
            _ => Self::Other,
        }
    }
}

/// Something about the stream itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InfoEvent {
    /// What it is; `OutdatedCursor` says that events after the cursor are lost.
    pub name: String,
    /// The same in words.
    pub message: Option<String>,
}
