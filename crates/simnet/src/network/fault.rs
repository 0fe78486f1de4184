//! The ways in which a network goes wrong, and which of them are on.

use std::sync::atomic::{AtomicU32, Ordering};

/// A kind of fault. Which accounts or hosts it hits follows from the seed. An account has at most one, and none if its host has one that
/// makes it unusable.
///
/// A discovery that goes by hosts cannot know the accounts of hosts that list nothing ([`Fault::DeadHost`], [`Fault::TlsFailure`],
/// [`Fault::StallingHost`], [`Fault::DrippingHost`], [`Fault::EndlessHost`]): they are found through the relay's list of repos or the
/// PLC's export alone. [`crate::Network::unlisted`] names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// One account in 200, for good: the CAR ends between two blocks, with a length that says so. The commit is in it, records are not.
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
    /// One small host of 20 or more: its URL says https, but it does not speak TLS. Without TLS it answers with status 400 alone.
    TlsFailure,
    /// One small host of 20 or more: takes requests and never answers.
    StallingHost,
    /// One small host of 20 or more: answers everything with a byte now and then.
    DrippingHost,
    /// One small host of 20 or more: answers everything with a body without end.
    EndlessHost,
    /// Six hosts in ten, among them the fullest: a limit, announced in headers. Needs [`crate::NetworkSettings::limit`].
    Limits429,
    /// One host in four: a limit and not a word about it. Needs [`crate::NetworkSettings::limit`].
    Silent429,
    /// Three hosts of 5 or more are names of one address and share one limit, twice as high as that of others, without a word about it.
    SharedAddress,
    /// One host of 4 or more lists accounts of others as its own: half of them it does not have, of half it has an old repo. Another one
    /// lists its own on two pages and then gives the same cursor again and again.
    LyingList,
    /// One host of middle size begins its list with 60 accounts that are not active.
    InactivePage,
    /// One account in 100: it moved, and its old host still lists it, as deactivated.
    Moved,
    /// One account in 100: at the first request for its repo it is gone, and lives elsewhere from then on.
    MovesDuringRun,
    /// One account in 100: its commit is signed with an older key than that of its document. Over when it next commits.
    RotatedKey,
    /// One account in 100: its handle leads to another DID.
    HandleElsewhere,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Self] = &[
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
        }
    }

    /// The fault of this name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.word() == word)
    }

    /// Those of single answers: their victims are chosen even if they are off, so that they can be switched on later.
    pub(super) const LASTING: &[Self] = &[
        Self::CutAtBlock,
        Self::ForgedBlock,
        Self::Html,
        Self::RedirectLoop,
        Self::Bomb,
        Self::Endless,
    ];
    /// Those that pass after an answer or two.
    pub(super) const PASSING: &[Self] = &[Self::ServerError, Self::Reset, Self::Stall, Self::WrongLength];
    /// Those of accounts that have to do with where they live and what they say of themselves.
    pub(super) const OF_IDENTITY: &[Self] = &[
        Self::Moved,
        Self::MovesDuringRun,
        Self::RotatedKey,
        Self::HandleElsewhere,
    ];
    /// Those that make a whole host unusable.
    pub(super) const OF_HOSTS: &[Self] = &[
        Self::DeadHost,
        Self::TlsFailure,
        Self::StallingHost,
        Self::DrippingHost,
        Self::EndlessHost,
    ];

    fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// Which faults are on.
#[derive(Default)]
pub(super) struct Switches(AtomicU32);

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

    #[test]
    fn words_lead_back_to_their_faults() {
        for fault in Fault::ALL {
            assert_eq!(Fault::parse(fault.word()), Some(*fault));
        }
        assert_eq!(Fault::parse("nothing"), None);
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
