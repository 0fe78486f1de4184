//! The ways in which a network goes wrong, and which of them are on.
//!
//! The list of them is `faults!` below. A new fault takes:
//! 1. a line in `faults!`, with its word. Then `INSTA_UPDATE=always cargo test -p skyfill --test
//!    suite mistakes` writes the snapshot that lists all words anew;
//! 2. a place in [`Fault::ORDINARY`] or [`Fault::HOSTILE`], and in the list below them that says
//!    whom it hits (`plan.rs` deals them out); a test fails as long as one is missing. A fault of a
//!    host that stays usable is a field of `Host` in `accounts.rs`, as `counting` and `repeats`
//!    are, which `give_faults` and `give_all_faults` in `plan.rs` set: with `Host::fault`, all
//!    accounts of the host count as failed, and no list names them;
//! 3. what it does: in `pds.rs` for answers of ordinary hosts (the compiler names the `match` of
//!    answers for a repo), in `lists.rs`, `plc.rs` and `relay.rs` for theirs, in `network/hostile/`
//!    for what somebody means; a body that is made from a repo in `cars.rs`. A new way to write an
//!    answer is a variant of `Answer` in `crates/simnet/src/answer.rs`;
//! 4. what becomes of an account that has it: [`Fault::end_of_account`]. The repo fails if the
//!    fault is lasting; else the account is loaded, unless a line there says something else. Of a
//!    fault of a host: [`crate::Network::expected`] and [`crate::Network::honest`] in `mod.rs`.
//!    What a status means to skyfill says `refusal` in `crates/fetch/src/client.rs`;
//! 5. a place in a list of `hostile_hosts` of the suite (`crates/skyfill/tests/suite`), which a
//!    test demands: a fault of a whole host in one whose faults come in turn, since it would hide
//!    those of single answers;
//! 6. tests of its own: what a client sees of it in `crates/simnet/tests/network/main.rs`, or
//!    `hostile.rs` beside it; how `producer` fails at a new kind of answer in the list of the
//!    suite's `hostile`;
//! 7. a line in `CHANGELOG.md`.
//!
//! No other list of faults has to be complete. The suite's `network` then runs with it, and fails
//! if a lasting fault does nothing; that others do something only their own tests show.

use super::expected::Expected;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// A kind of fault. Which accounts or hosts it hits follows from the seed. An account has
        /// at most one, and none if its host has one that makes it unusable.
        ///
        /// The first of them happen by themselves ([`Fault::ORDINARY`]); the others somebody means
        /// ([`Fault::HOSTILE`]). A *hostile host* stands beside those of the settings, has no
        /// accounts, and is listed by the relay as all others are.
        ///
        /// A discovery that goes by hosts cannot know the accounts of hosts that list nothing
        /// ([`Fault::DeadHost`], [`Fault::TlsFailure`], [`Fault::StallingHost`],
        /// [`Fault::DrippingHost`], [`Fault::EndlessHost`]): they are found through the relay's
        /// list of repos or the PLC's export alone. [`crate::Network::unlisted`] names them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Fault {
            $($(#[$doc])* $name,)*
        }

        impl Fault {
            /// All of them, in the order of their declaration.
            #[cfg(test)]
            const DECLARED: &[Self] = &[$(Self::$name,)*];

            /// Its name, as arguments have it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

faults! {
    /// One account in 200, for good: the CAR ends between two blocks, with a length that says so.
    /// The commit is in it, records are not.
    CutAtBlock = "cut-at-block",
    /// One account in 200, for good: a byte of a record is another one than its CID says.
    ForgedBlock = "forged-block",
    /// One account in 200, for good: a page of HTML with status 200.
    Html = "html",
    /// One account in 200, for good: a redirect to the same URL.
    RedirectLoop = "redirect-loop",
    /// One account in 200, for good: gzip of 6 GiB of zeros.
    Bomb = "bomb",
    /// One account in 200, for good: a body without end.
    Endless = "endless",
    /// One account in 60, once or twice: status 500, then 503.
    ServerError = "server-error",
    /// One account in 60, once or twice: the connection is reset.
    Reset = "reset",
    /// One account in 60, once: half of the body, and then nothing.
    Stall = "stall",
    /// One account in 60, once or twice: less of a body than its length says.
    WrongLength = "wrong-length",
    /// One small host of 20 or more: nobody listens. Once switched off it is not switched on again.
    DeadHost = "dead-host",
    /// One small host of 20 or more: its URL says https, but it does not speak TLS. Without TLS it
    /// answers with status 400 alone.
    TlsFailure = "tls-failure",
    /// One small host of 20 or more: takes requests and never answers.
    StallingHost = "stalling-host",
    /// One small host of 20 or more: answers everything with a byte now and then.
    DrippingHost = "dripping-host",
    /// One small host of 20 or more: answers everything with a body without end.
    EndlessHost = "endless-host",
    /// Six hosts in ten, among them the fullest: a limit, announced in headers. Needs
    /// [`crate::NetworkSettings::limit`].
    Limits429 = "limits-429",
    /// One host in four: a limit and not a word about it. Needs [`crate::NetworkSettings::limit`].
    Silent429 = "silent-429",
    /// Three hosts of 5 or more are names of one address and share one limit, twice as high as that
    /// of others, without a word about it.
    SharedAddress = "shared-address",
    /// One host of 4 or more lists accounts of others as its own: half of them it does not have, of
    /// half it has an old repo. Another one lists its own on two pages and then gives the same
    /// cursor again and again.
    LyingList = "lying-list",
    /// One host of middle size begins its list with 60 accounts that are not active.
    InactivePage = "inactive-page",
    /// One account in 100: it moved, and its old host still lists it, as deactivated.
    Moved = "moved",
    /// One account in 100: at the first request for its repo it is gone, and lives elsewhere from
    /// then on.
    MovesDuringRun = "moves-during-run",
    /// One account in 100: its commit is signed with an older key than that of its document. Over
    /// when it next commits.
    RotatedKey = "rotated-key",
    /// One account in 100: its handle leads to another DID.
    HandleElsewhere = "handle-elsewhere",
    /// One account in 200: maps nested up to 95 deep whose keys JavaScript sorts anew at each
    /// level.
    IndexKeys = "index-keys",
    /// One account in 200: language tags with tens of thousands of variants.
    LanguageTags = "language-tags",
    /// One account in 200: posts that mention thousands of accounts.
    Mentions = "mentions",
    /// One account in 200: lists and maps 95 deep, below one key or many, with byte order marks.
    DeepLists = "deep-lists",
    /// One account in 200: texts of control characters, which grow sixfold in JSON.
    ControlCharacters = "control-characters",
    /// One account in 200: records of more than 1 MiB, and of more than 8 MiB.
    LargeRecords = "large-records",
    /// One account in 200: URIs and DIDs in gates, replies and lists that no btree can hold.
    LongKeys = "long-keys",
    /// One account in 200: a commit with a field of 8 MiB of zeros, in zstd.
    CommitBomb = "commit-bomb",
    /// One account in 200: zstd of 256 MiB of zeros, some kilobytes long.
    ZstdBomb = "zstd-bomb",
    /// One account in 200: half a million copies of one block behind the repo, in gzip.
    DuplicateSections = "duplicate-sections",
    /// One account in 200 and one hostile host: they refuse with errors that hold escape sequences.
    EscapesInErrors = "escapes-in-errors",
    /// One account in 200: its document claims a handle with escape sequences.
    EscapesInHandles = "escapes-in-handles",
    /// One account in 200: its document names its host with a user and a password.
    UserInEndpoint = "user-in-endpoint",
    /// One account in 200: whoever asks for its handle, or its did:web document, never gets an
    /// answer.
    SilentHandle = "silent-handle",
    /// A hostile host lists ten invented repos per second, without end.
    SlowLister = "slow-lister",
    /// A hostile host lists accounts of others as its own, active, at a rev that is always newer
    /// than theirs, and has none of them.
    FalseClaims = "false-claims",
    /// A hostile host lists and serves repos of others that it forged: at the last rev that there
    /// is, signed with a key of its own.
    ForgedFuture = "forged-future",
    /// Two hostile hosts are names of the address of a good one, and answer all requests but those
    /// for their list of invented repos with status 429 and `Retry-After: 86400`.
    EvilNames = "evil-names",
    /// A hostile host's list goes in a circle of three pages.
    CircularList = "circular-list",
    /// A hostile host's list has lines that are no repos, and so has the relay's list of hosts.
    OddLines = "odd-lines",
    /// Two hostile hosts give pages that are small to send and large to hold: objects with an empty
    /// key, and lists in lists.
    PageBomb = "page-bomb",
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
    pub const OF_HOSTILE_ACCOUNTS: &[Self] = &[
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
    pub const OF_HOSTILE_HOSTS: &[Self] = &[
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

    /// Those that hosts have beside others: limits, and lists that are wrong.
    #[cfg(test)]
    const OF_LIMITS_AND_LISTS: &[Self] = &[
        Self::Limits429,
        Self::Silent429,
        Self::SharedAddress,
        Self::LyingList,
        Self::InactivePage,
    ];

    /// What becomes of an account that has it. What becomes of those on a host that has it,
    /// [`crate::Network::expected`] says.
    #[must_use]
    pub fn end_of_account(self) -> Expected {
        match self {
            lasting if Self::LASTING.contains(&lasting) => Expected::Failed,
            Self::CommitBomb | Self::ZstdBomb | Self::EscapesInErrors => Expected::Failed,
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
    fn every_fault_is_of_one_kind_and_hits_somebody() {
        let mut all = Fault::ALL.to_vec();
        all.sort_unstable();
        assert_eq!(all, Fault::DECLARED);
        let whom = [
            Fault::LASTING,
            Fault::PASSING,
            Fault::OF_IDENTITY,
            Fault::OF_HOSTILE_ACCOUNTS,
            Fault::OF_HOSTILE_HOSTS,
            Fault::OF_HOSTS,
            Fault::OF_LIMITS_AND_LISTS,
        ];
        for fault in Fault::ALL {
            assert!(whom.iter().any(|hit| hit.contains(fault)), "{fault:?}");
        }
        assert!(Fault::ALL.len() <= 64, "a switch has a bit");
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
