//! The states of repos (column `state` of table `repo`), with the one conversion to and from their
//! words.

use std::fmt;

/// What became of a repo so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is to be fetched.
    Open,
    /// Some of its parts are stored, others are still to come over a socket.
    Coming,
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

/// A state that this version does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownState(pub String);

impl fmt::Display for UnknownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "skyfill.repo has repos in the state {:?}, which this version of skyfill does not know",
            self.0
        )
    }
}

impl std::error::Error for UnknownState {}

impl State {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Open,
        Self::Coming,
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

    /// Its word in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Coming => "coming",
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

    /// The state of a word.
    ///
    /// # Errors
    /// There is none: a newer version wrote it, or somebody's hand.
    pub fn parse(word: &str) -> Result<Self, UnknownState> {
        Self::ALL
            .into_iter()
            .find(|state| state.word() == word)
            .ok_or_else(|| UnknownState(word.to_owned()))
    }

    /// Whether something is still to be done for such a repo. The others are loaded, or nobody can
    /// or may load them.
    #[must_use]
    pub const fn is_unfinished(self) -> bool {
        matches!(
            self,
            Self::Open | Self::Coming | Self::Unresolved | Self::Failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn each_word_is_that_of_one_state() {
        for state in State::ALL {
            assert_eq!(State::parse(state.word()), Ok(state));
        }
        let error = State::parse("loadde").unwrap_err();
        assert!(error.to_string().contains("\"loadde\""), "{error}");
    }
}
