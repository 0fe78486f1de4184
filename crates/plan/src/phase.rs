//! The phases of a load, in order.

/// A phase of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Repos are fetched and loaded.
    Load,
    /// Indexes are rebuilt.
    Indexes,
    /// Tables are vacuumed and frozen.
    Vacuum,
    /// Accounts are looked up.
    Identities,
    /// Derived rows are computed.
    Finalize,
    /// The tables are compared with the commits.
    Verify,
}

impl Phase {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::Load,
        Self::Indexes,
        Self::Vacuum,
        Self::Identities,
        Self::Finalize,
        Self::Verify,
    ];

    /// Its word, as in the ledger.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Indexes => "indexes",
            Self::Vacuum => "vacuum",
            Self::Identities => "identities",
            Self::Finalize => "finalize",
            Self::Verify => "verify",
        }
    }

    /// What people read.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Load => "fetch and load",
            Self::Identities => "accounts",
            other => other.word(),
        }
    }
}
