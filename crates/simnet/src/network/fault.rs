//! The ways in which a network goes wrong, and which of them are on.

use super::expected::Expected;
use std::sync::atomic::{AtomicU64, Ordering};

/// A kind of fault. Which accounts or hosts it hits follows from the seed. An account has at most
/// one, and none if its host has one that makes it unusable.
///
/// The first of them happen by themselves ([`Fault::ORDINARY`]); the others somebody means
/// ([`Fault::HOSTILE`]). A *hostile host* stands beside those of the settings, has no accounts, and
/// is listed by the relay as all others are.
///
/// A discovery that goes by hosts cannot know the accounts of hosts that list nothing
/// ([`Fault::DeadHost`], [`Fault::TlsFailure`], [`Fault::StallingHost`], [`Fault::DrippingHost`],
/// [`Fault::EndlessHost`]): they are found through the relay's list of repos or the PLC's export
/// alone. [`crate::Network::unlisted`] names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// One account in 200, for good: the CAR ends between two blocks, with a length that says so.
    /// The commit is in it, records are not.
    CutAtBlock,
    /// One account in 200, for good: a byte of a record is another one than its CID says.
    ForgedBlock,
    /// One account in 200, for good: a page of HTML with status 200.
    Html,
    /// One account in 200, for good: a redirect to the same URL.
    RedirectLoop,
    /// One account in 200, for good: gzip of 6 GiB of zeros.
    Bomb,
    /// One account in 200, for good: a body without end.
    Endless,
    /// One account in 60, once or twice: status 500, then 503.
    ServerError,
    /// One account in 60, once or twice: the connection is reset.
    Reset,
    /// One account in 60, once: half of the body, and then nothing.
    Stall,
    /// One account in 60, once or twice: less of a body than its length says.
    WrongLength,
    /// One small host of 20 or more: nobody listens. Once switched off it is not switched on again.
    DeadHost,
    /// One small host of 20 or more: its URL says https, but it does not speak TLS. Without TLS it
    /// answers with status 400 alone.
    TlsFailure,
    /// One small host of 20 or more: takes requests and never answers.
    StallingHost,
    /// One small host of 20 or more: answers everything with a byte now and then.
    DrippingHost,
    /// One small host of 20 or more: answers everything with a body without end.
    EndlessHost,
    /// Six hosts in ten, among them the fullest: a limit, announced in headers. Needs
    /// [`crate::NetworkSettings::limit`].
    Limits429,
    /// One host in four: a limit and not a word about it. Needs [`crate::NetworkSettings::limit`].
    Silent429,
    /// Three hosts of 5 or more are names of one address and share one limit, twice as high as that
    /// of others, without a word about it.
    SharedAddress,
    /// One host of 4 or more lists accounts of others as its own: half of them it does not have, of
    /// half it has an old repo. Another one lists its own on two pages and then gives the same
    /// cursor again and again.
    LyingList,
    /// One host of middle size begins its list with 60 accounts that are not active.
    InactivePage,
    /// One account in 100: it moved, and its old host still lists it, as deactivated.
    Moved,
    /// One account in 100: at the first request for its repo it is gone, and lives elsewhere from
    /// then on.
    MovesDuringRun,
    /// One account in 100: its commit is signed with an older key than that of its document. Over
    /// when it next commits.
    RotatedKey,
    /// One account in 100: its handle leads to another DID.
    HandleElsewhere,
    /// One account in 200: maps nested up to 95 deep whose keys JavaScript sorts anew at each
    /// level.
    IndexKeys,
    /// One account in 200: language tags with tens of thousands of variants.
    LanguageTags,
    /// One account in 200: posts that mention thousands of accounts.
    Mentions,
    /// One account in 200: lists and maps 95 deep, below one key or many, with byte order marks.
    DeepLists,
    /// One account in 200: texts of control characters, which grow sixfold in JSON.
    ControlCharacters,
    /// One account in 200: records of more than 1 MiB, and of more than 8 MiB.
    LargeRecords,
    /// One account in 200: URIs and DIDs in gates, replies and lists that no btree can hold.
    LongKeys,
    /// One account in 200: a commit with a field of 8 MiB of zeros, in zstd.
    CommitBomb,
    /// One account in 200: zstd of 256 MiB of zeros, some kilobytes long.
    ZstdBomb,
    /// One account in 200: half a million copies of one block behind the repo, in gzip.
    DuplicateSections,
    /// One account in 200 and one hostile host: they refuse with errors that hold escape sequences.
    EscapesInErrors,
    /// One account in 200: its document claims a handle with escape sequences.
    EscapesInHandles,
    /// One account in 200: its document names its host with a user and a password.
    UserInEndpoint,
    /// One account in 200: whoever asks for its handle, or its did:web document, never gets an
    /// answer.
    SilentHandle,
    /// A hostile host lists ten invented repos per second, without end.
    SlowLister,
    /// A hostile host lists accounts of others as its own, active, at a rev that is always newer
    /// than theirs, and has none of them.
    FalseClaims,
    /// A hostile host lists and serves repos of others that it forged: at the last rev that there
    /// is, signed with a key of its own.
    ForgedFuture,
    /// Two hostile hosts are names of the address of a good one, and answer all requests but those
    /// for their list of invented repos with status 429 and `Retry-After: 86400`.
    EvilNames,
    /// A hostile host's list goes in a circle of three pages.
    CircularList,
    /// A hostile host's list has lines that are no repos, and so has the relay's list of hosts.
    OddLines,
    /// Two hostile hosts give pages that are small to send and large to hold: objects with an empty
    /// key, and lists in lists.
    PageBomb,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Self] = &{
        let mut all = [Self::CutAtBlock; Self::ORDINARY.len() + Self::HOSTILE.len()];
        let (ordinary, hostile) = all.split_at_mut(Self::ORDINARY.len());
        ordinary.copy_from_slice(Self::ORDINARY);
        hostile.copy_from_slice(Self::HOSTILE);
        all
    };

    /// Those that happen by themselves, now and then.
    pub const ORDINARY: &[Self] = &[
        Self::CutAtBlock,
        Self::ForgedBlock,
        Self::Html,
        Self::RedirectLoop,
        Self::Bomb,
        Self::Endless,
        Self::ServerError,
        Self::Reset,
        Self::Stall,
        Self::WrongLength,
        Self::DeadHost,
        Self::TlsFailure,
        Self::StallingHost,
        Self::DrippingHost,
        Self::EndlessHost,
        Self::Limits429,
        Self::Silent429,
        Self::SharedAddress,
        Self::LyingList,
        Self::InactivePage,
        Self::Moved,
        Self::MovesDuringRun,
        Self::RotatedKey,
        Self::HandleElsewhere,
    ];

    /// Those by which somebody means to do harm.
    pub const HOSTILE: &[Self] = &[
        Self::IndexKeys,
        Self::LanguageTags,
        Self::Mentions,
        Self::DeepLists,
        Self::ControlCharacters,
        Self::LargeRecords,
        Self::LongKeys,
        Self::CommitBomb,
        Self::ZstdBomb,
        Self::DuplicateSections,
        Self::EscapesInErrors,
        Self::EscapesInHandles,
        Self::UserInEndpoint,
        Self::SilentHandle,
        Self::SlowLister,
        Self::FalseClaims,
        Self::ForgedFuture,
        Self::EvilNames,
        Self::CircularList,
        Self::OddLines,
        Self::PageBomb,
    ];

    /// Its name, as arguments have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::CutAtBlock => "cut-at-block",
            Self::ForgedBlock => "forged-block",
            Self::Html => "html",
            Self::RedirectLoop => "redirect-loop",
            Self::Bomb => "bomb",
            Self::Endless => "endless",
            Self::ServerError => "server-error",
            Self::Reset => "reset",
            Self::Stall => "stall",
            Self::WrongLength => "wrong-length",
            Self::DeadHost => "dead-host",
            Self::TlsFailure => "tls-failure",
            Self::StallingHost => "stalling-host",
            Self::DrippingHost => "dripping-host",
            Self::EndlessHost => "endless-host",
            Self::Limits429 => "limits-429",
            Self::Silent429 => "silent-429",
            Self::SharedAddress => "shared-address",
            Self::LyingList => "lying-list",
            Self::InactivePage => "inactive-page",
            Self::Moved => "moved",
            Self::MovesDuringRun => "moves-during-run",
            Self::RotatedKey => "rotated-key",
            Self::HandleElsewhere => "handle-elsewhere",
            Self::IndexKeys => "index-keys",
            Self::LanguageTags => "language-tags",
            Self::Mentions => "mentions",
            Self::DeepLists => "deep-lists",
            Self::ControlCharacters => "control-characters",
            Self::LargeRecords => "large-records",
            Self::LongKeys => "long-keys",
            Self::CommitBomb => "commit-bomb",
            Self::ZstdBomb => "zstd-bomb",
            Self::DuplicateSections => "duplicate-sections",
            Self::EscapesInErrors => "escapes-in-errors",
            Self::EscapesInHandles => "escapes-in-handles",
            Self::UserInEndpoint => "user-in-endpoint",
            Self::SilentHandle => "silent-handle",
            Self::SlowLister => "slow-lister",
            Self::FalseClaims => "false-claims",
            Self::ForgedFuture => "forged-future",
            Self::EvilNames => "evil-names",
            Self::CircularList => "circular-list",
            Self::OddLines => "odd-lines",
            Self::PageBomb => "page-bomb",
        }
    }

    /// The fault of this name. Hyphens may be left out.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let plain = |word: &str| word.replace('-', "");
        let wanted = plain(word);
        let is_meant = |fault: &Self| plain(fault.word()) == wanted;
        Self::ALL.iter().copied().find(is_meant)
    }

    /// The faults of these names, of which `all` and `none` are two.
    ///
    /// # Errors
    /// The name that is none.
    pub fn parse_all(words: &[String]) -> Result<Vec<Self>, String> {
        let mut faults = Vec::new();
        for word in words {
            match word.as_str() {
                "all" => faults.extend_from_slice(Self::ALL),
                "none" => {}
                word => faults.push(Self::parse(word).ok_or_else(|| word.to_owned())?),
            }
        }
        Ok(faults)
    }

    /// Those of single answers: their victims are chosen even if they are off, so that they can be
    /// switched on later.
    pub(super) const LASTING: &[Self] = &[
        Self::CutAtBlock,
        Self::ForgedBlock,
        Self::Html,
        Self::RedirectLoop,
        Self::Bomb,
        Self::Endless,
    ];
    /// Those that pass after an answer or two.
    pub(super) const PASSING: &[Self] = &[
        Self::ServerError,
        Self::Reset,
        Self::Stall,
        Self::WrongLength,
    ];
    /// Those of accounts that have to do with where they live and what they say of themselves.
    pub(super) const OF_IDENTITY: &[Self] = &[
        Self::Moved,
        Self::MovesDuringRun,
        Self::RotatedKey,
        Self::HandleElsewhere,
    ];
    /// Those of accounts that somebody means: their victims are chosen if they are planned.
    pub(super) const OF_HOSTILE_ACCOUNTS: &[Self] = &[
        Self::IndexKeys,
        Self::LanguageTags,
        Self::Mentions,
        Self::DeepLists,
        Self::ControlCharacters,
        Self::LargeRecords,
        Self::LongKeys,
        Self::CommitBomb,
        Self::ZstdBomb,
        Self::DuplicateSections,
        Self::EscapesInErrors,
        Self::EscapesInHandles,
        Self::UserInEndpoint,
        Self::SilentHandle,
    ];
    /// Those of them that are of answers for a repo.
    pub(super) const OF_HOSTILE_REPOS: &[Self] = &[
        Self::CommitBomb,
        Self::ZstdBomb,
        Self::DuplicateSections,
        Self::EscapesInErrors,
    ];
    /// Those that hostile hosts have, one each.
    pub(super) const OF_HOSTILE_HOSTS: &[Self] = &[
        Self::EscapesInErrors,
        Self::SlowLister,
        Self::FalseClaims,
        Self::ForgedFuture,
        Self::EvilNames,
        Self::EvilNames,
        Self::CircularList,
        Self::OddLines,
        Self::PageBomb,
        Self::PageBomb,
    ];
    /// Those that make a whole host unusable.
    pub(super) const OF_HOSTS: &[Self] = &[
        Self::DeadHost,
        Self::TlsFailure,
        Self::StallingHost,
        Self::DrippingHost,
        Self::EndlessHost,
    ];

    /// What becomes of an account that it hits.
    pub(super) fn end_of_account(self) -> Expected {
        match self {
            Self::CutAtBlock
            | Self::ForgedBlock
            | Self::Html
            | Self::RedirectLoop
            | Self::Bomb
            | Self::Endless
            | Self::CommitBomb
            | Self::ZstdBomb
            | Self::EscapesInErrors => Expected::Failed,
            Self::DuplicateSections | Self::UserInEndpoint => Expected::LoadedOrFailed,
            _ => Expected::Loaded,
        }
    }

    fn bit(self) -> u64 {
        1 << (self as u32)
    }
}

/// Which faults are on.
#[derive(Default)]
pub(super) struct Switches(AtomicU64);

impl Switches {
    pub(super) fn set(&self, on: &[Fault]) {
        let bits = on.iter().fold(0, |bits, fault| bits | fault.bit());
        self.0.store(bits, Ordering::SeqCst);
    }

    pub(super) fn is_on(&self, fault: Fault) -> bool {
        self.0.load(Ordering::SeqCst) & fault.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Switches};
    use std::collections::BTreeSet;

    #[test]
    fn words_lead_back_to_their_faults() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.word()), Some(*fault));
        }
        assert_eq!(Fault::parse("limits429"), Some(Fault::Limits429));
        assert_eq!(Fault::parse("nothing"), None);
        let words: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.word()).collect();
        assert_eq!(words.len(), Fault::ALL.len());
    }

    #[test]
    fn switches_are_independent() {
        let switches = Switches::default();
        switches.set(&[Fault::Html, Fault::HandleElsewhere]);
        let on: Vec<Fault> = Fault::ALL
            .iter()
            .copied()
            .filter(|fault| switches.is_on(*fault))
            .collect();
        assert_eq!(on, [Fault::Html, Fault::HandleElsewhere]);
    }
}
