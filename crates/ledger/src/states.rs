//! The states of repos (column `state` of table `repo`) and of accounts (column `status` of table
//! `identity`), with the one conversion to and from their words.
//!
//! The words in the database are older than the terms that people read ([`State::term`]): a
//! pending repo is `open` there. They stay, because converting them would gain nothing and cost
//! much. The indexes of the queue name the words; an UPDATE of tens of millions of pending repos
//! would write the largest table of the schema again, twice its size until a vacuum; and an older
//! skyfill that works on the same database would find no repo to load. So the words are known in
//! this file, in the SQL of this crate and, as `--json` prints them, to scripts.

use crate::column::column;

/// The result for a repo so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is to be fetched.
    Pending,
    /// It was sent to a stream, and a consumer is to store it; or some of its parts are stored, and
    /// others are still to come over a socket.
    Partial,
    /// Nobody knows its host, or two hosts claim it, and it was not loaded before.
    Unresolved,
    /// It could not be loaded; the reason and the time of the next attempt stand beside.
    Failed,
    /// All of it is stored.
    Loaded,
    /// The account is deactivated.
    Deactivated,
    /// The account is suspended.
    Suspended,
    /// The account is taken down.
    Takendown,
    /// The account is deleted, and so are its rows.
    Deleted,
    /// Neither the host nor the DID document knows of a repo.
    NotFound,
    /// The operator's opt-out list names the account or its host.
    OptedOut,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Pending,
        Self::Partial,
        Self::Unresolved,
        Self::Failed,
        Self::Loaded,
        Self::Deactivated,
        Self::Suspended,
        Self::Takendown,
        Self::Deleted,
        Self::NotFound,
        Self::OptedOut,
    ];

    /// Its word in the ledger, and in what `--json` prints.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "open",
            Self::Partial => "coming",
            Self::Unresolved => "unresolved",
            Self::Failed => "failed",
            Self::Loaded => "loaded",
            Self::Deactivated => "deactivated",
            Self::Suspended => "suspended",
            Self::Takendown => "takendown",
            Self::Deleted => "deleted",
            Self::NotFound => "not found",
            Self::OptedOut => "host opted out",
        }
    }

    /// What people read: pending, failed, loaded, gone or skipped, and more where it matters.
    #[must_use]
    pub const fn term(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Partial => "pending, sent or stored in part",
            Self::Unresolved => "pending, on no host that is known for certain",
            Self::Failed => "failed",
            Self::Loaded => "loaded",
            Self::Deactivated => "gone, deactivated",
            Self::Suspended => "gone, suspended",
            Self::Takendown => "gone, taken down",
            Self::Deleted => "gone, deleted",
            Self::NotFound => "gone, not found",
            Self::OptedOut => "skipped, opted out",
        }
    }

    /// Whether something is still to be done for such a repo. The others are loaded, or nobody can
    /// or may load them.
    #[must_use]
    pub const fn is_unfinished(self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Partial | Self::Unresolved | Self::Failed
        )
    }
}

column!(State, "skyfill.repo", "state");

/// Why an account is not active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Inactive {
    /// Its holder deactivated it.
    Deactivated,
    /// It is suspended.
    Suspended,
    /// It is taken down.
    Takendown,
    /// It is deleted.
    Deleted,
}

impl Inactive {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Deactivated,
        Self::Suspended,
        Self::Takendown,
        Self::Deleted,
    ];

    /// Its word in the ledger and in the protocol.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Deactivated => State::Deactivated.word(),
            Self::Suspended => State::Suspended.word(),
            Self::Takendown => State::Takendown.word(),
            Self::Deleted => State::Deleted.word(),
        }
    }

    /// The one that a repo in this state has because of its account. A deleted one has none: all
    /// that is known of it goes with its rows.
    #[must_use]
    pub const fn of(state: State) -> Option<Self> {
        match state {
            State::Deactivated => Some(Self::Deactivated),
            State::Suspended => Some(Self::Suspended),
            State::Takendown => Some(Self::Takendown),
            _ => None,
        }
    }

    /// The one of this word of the protocol; others say nothing about a repo.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.word() == word)
    }
}

column!(Inactive, "skyfill.identity", "status");

#[cfg(test)]
mod tests {
    use super::{Inactive, State};
    use postgres::types::{FromSql, Type};
    use std::collections::HashSet;

    #[test]
    fn each_word_is_that_of_one_state() {
        let words: HashSet<&str> = State::ALL.iter().map(|state| state.word()).collect();
        let terms: HashSet<&str> = State::ALL.iter().map(|state| state.term()).collect();
        assert_eq!(
            (words.len(), terms.len()),
            (State::ALL.len(), State::ALL.len())
        );
        for state in State::ALL {
            let read = State::from_sql(&Type::TEXT, state.word().as_bytes());
            assert_eq!(read.unwrap(), state);
        }
        let error = State::from_sql(&Type::TEXT, b"loadde").unwrap_err();
        assert!(error.to_string().contains("state \"loadde\""), "{error}");
    }

    #[test]
    fn a_term_says_first_whether_something_is_left_to_do() {
        for state in State::ALL {
            let first = state.term().split(',').next().unwrap();
            let is_left = matches!(first, "pending" | "failed");
            assert!(
                is_left || matches!(first, "loaded" | "gone" | "skipped"),
                "{first}"
            );
            assert_eq!(is_left, state.is_unfinished(), "{state}");
        }
    }

    #[test]
    fn only_what_the_protocol_calls_so_is_the_state_of_an_account() {
        assert_eq!(Inactive::parse("takendown"), Some(Inactive::Takendown));
        assert_eq!(Inactive::parse("open"), None);
    }
}
