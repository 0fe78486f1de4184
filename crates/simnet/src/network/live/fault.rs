//! The ways in which a stream goes wrong while a life is played.

/// A fault of a stream. They are of the relay's stream alone: PDSes tell the truth.
///
/// Whatever they do, the repos that hosts serve are the true ones, and what a relay made up is in
/// none of them. Where a fault hides the last commit of an account, the life ends with another
/// commit of it, so that the stream itself shows that something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamFault {
    /// A commit never comes; its number is left out.
    SequenceGap,
    /// The last events come again, with their numbers.
    Replay,
    /// A commit that nobody made comes before a true one, signed with another key.
    ForgedSignature,
    /// A commit comes with another `prevData`.
    ForgedPrevData,
    /// A commit of several operations comes without one of them.
    OpLeftOut,
    /// A commit comes with an operation that nobody made.
    OpMadeUp,
    /// A byte of a block of a commit is another one.
    AlteredBlock,
    /// A record of a commit is not in its slice.
    MissingRecord,
    /// A commit comes again, under a new number, after later ones.
    RolledBackRev,
    /// A commit at a rev of the year 2100, signed with the account's key, that no repo has.
    FutureRev,
    /// An account has a new key and commits at once; the event of its document comes afterwards.
    KeyRotated,
    /// A commit comes without `prevData` and `prev`, as before Sync 1.1.
    NoProof,
    /// A commit says that it is too big, and has no operations.
    TooBig,
    /// The frame of a commit has 6 MiB.
    OversizedFrame,
    /// The frame of a commit has 20 MiB.
    GiantFrame,
    /// Frames that are no events: random bytes, text, half an event, an unknown kind.
    GarbageFrame,
    /// The connection breaks.
    Drop,
    /// Nothing comes any more, and the connection stays.
    Stall,
}

impl StreamFault {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::SequenceGap,
        Self::Replay,
        Self::ForgedSignature,
        Self::ForgedPrevData,
        Self::OpLeftOut,
        Self::OpMadeUp,
        Self::AlteredBlock,
        Self::MissingRecord,
        Self::RolledBackRev,
        Self::FutureRev,
        Self::KeyRotated,
        Self::NoProof,
        Self::TooBig,
        Self::OversizedFrame,
        Self::GiantFrame,
        Self::GarbageFrame,
        Self::Drop,
        Self::Stall,
    ];

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::SequenceGap => "sequence-gap",
            Self::Replay => "replay",
            Self::ForgedSignature => "forged-signature",
            Self::ForgedPrevData => "forged-prev-data",
            Self::OpLeftOut => "op-left-out",
            Self::OpMadeUp => "op-made-up",
            Self::AlteredBlock => "altered-block",
            Self::MissingRecord => "missing-record",
            Self::RolledBackRev => "rolled-back-rev",
            Self::FutureRev => "future-rev",
            Self::KeyRotated => "key-rotated",
            Self::NoProof => "no-proof",
            Self::TooBig => "too-big",
            Self::OversizedFrame => "oversized-frame",
            Self::GiantFrame => "giant-frame",
            Self::GarbageFrame => "garbage-frame",
            Self::Drop => "drop",
            Self::Stall => "stall",
        }
    }

    /// The fault of this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.word() == word)
    }
}
