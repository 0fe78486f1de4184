//! What is learned of one account: its document, and where the handle in it leads.

use crate::documents;
use identity::handle::{self, Leads, Manner};
use identity::resolve::{self, Found};
use ledger::identity::{DocumentNote, Due, HandleNote, HandleState};

/// Attempts at each document.
pub(super) const ATTEMPTS: u32 = 4;
/// Seconds until what could not be reached is retried, by how often that was. After that only
/// `--retry` tries.
const AGAIN_IN: &[i32] = &[3600, 4 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600];

/// What was learned of one account.
pub(super) struct Learned {
    pub(super) due: Due,
    /// Nothing if the one of the ledger was fresh.
    pub(super) found: Option<Found>,
    pub(super) handle: Handle,
}

/// What an account's document says of its handle, and the result of asking.
pub(super) enum Handle {
    /// There is no good document.
    NoDocument,
    /// It names none.
    None,
    /// It names one, which nobody was asked about.
    Claimed(String),
    /// It names one, which leads there.
    Asked(String, Leads),
}

impl Learned {
    /// Of an account whose handle nobody is going to be asked about.
    pub(super) fn unreachable(due: &Due, handle: Option<&str>, why: String) -> Self {
        Self {
            due: due.clone(),
            found: None,
            handle: Handle::Asked(
                handle.unwrap_or_default().to_owned(),
                Leads::Unreachable(why),
            ),
        }
    }

    /// What its document is to be noted as, if it was asked for.
    pub(super) fn note(&self) -> Option<DocumentNote> {
        let found = self.found.as_ref()?;
        Some(DocumentNote {
            heard: self.due.heard,
            ..documents::note(self.due.did.clone(), found)
        })
    }

    /// What its handle is to be noted as.
    pub(super) fn handle_note(&self) -> HandleNote {
        let (state, error) = self.handle_state();
        let again_in = usize::try_from(self.due.attempts)
            .ok()
            .and_then(|attempts| AGAIN_IN.get(attempts))
            .copied();
        HandleNote {
            did: self.due.did.clone(),
            state,
            error,
            again_in: again_in.filter(|_| state == HandleState::Unreachable),
            heard: self.due.heard,
        }
    }

    /// The handle that the ledger has when the document is noted, if it had `claimed` before;
    /// nothing if the document names another one now.
    pub(super) fn claimed_after(&self, claimed: Option<&String>) -> Option<Option<String>> {
        match &self.found {
            None | Some(Found::Unreachable(_)) => Some(claimed.cloned()),
            Some(Found::Gone | Found::Useless(_) | Found::Unsupported) => Some(None),
            Some(Found::Document(document)) => {
                (document.handle.as_ref() == claimed).then(|| claimed.cloned())
            }
        }
    }

    /// The state of its handle, and why it could not be reached.
    pub(super) fn handle_state(&self) -> (HandleState, Option<String>) {
        match (&self.handle, &self.found) {
            (Handle::Asked(_, Leads::To(led)), _) if *led == self.due.did => {
                (HandleState::Verified, None)
            }
            (Handle::Asked(_, Leads::To(_) | Leads::Nowhere) | Handle::None, _) => {
                (HandleState::Mismatch, None)
            }
            (Handle::Asked(_, Leads::Unreachable(error)), _)
            | (Handle::NoDocument, Some(Found::Unreachable(error))) => {
                (HandleState::Unreachable, Some(error.clone()))
            }
            (Handle::Claimed(_), _) => (HandleState::Claimed, None),
            (Handle::NoDocument, _) => (HandleState::NoDocument, None),
        }
    }
}

/// Looks an account up; without `handles`, its handle is taken as claimed.
pub(super) async fn look_up_one(
    due: Due,
    documents: &resolve::Resolver,
    handles: Option<&handle::Resolver>,
) -> Learned {
    let (found, claimed) = document_of(&due, documents).await;
    let handle = match (claimed, handles) {
        (None, _) => Handle::NoDocument,
        (Some(None), _) => Handle::None,
        // It leads nowhere, whoever is asked, and nobody is to be served it.
        (Some(Some(claimed)), None) if !atrepo::syntax::is_handle(&claimed) => {
            Handle::Asked(claimed, Leads::Nowhere)
        }
        (Some(Some(claimed)), None) => Handle::Claimed(claimed),
        (Some(Some(claimed)), Some(handles)) => {
            let leads = handles.resolve(&claimed).await;
            Handle::Asked(claimed, leads)
        }
    };
    Learned { due, found, handle }
}

/// A document that was asked for, and the handle of a good one, from the ledger or asked for.
pub(super) type Known = (Option<Found>, Option<Option<String>>);

/// The document of an account.
pub(super) async fn document_of(due: &Due, documents: &resolve::Resolver) -> Known {
    if let Some(claimed) = &due.document {
        return (None, Some(claimed.clone()));
    }
    let found = documents.resolve(&due.did).await;
    let claimed = match &found {
        Found::Document(document) => Some(document.handle.clone()),
        _ => None,
    };
    (Some(found), claimed)
}

/// Asks for the handle that a document names, however its domain behaves; and how the host took it,
/// if there was something to ask for.
pub(super) async fn handle_of(
    due: Due,
    (found, claimed): Known,
    handles: &handle::Resolver,
) -> (Learned, Option<Manner>) {
    let (handle, manner) = match claimed {
        None => (Handle::NoDocument, None),
        Some(None) => (Handle::None, None),
        Some(Some(claimed)) => {
            let (leads, manner) = handles.ask(&claimed).await;
            (Handle::Asked(claimed, leads), Some(manner))
        }
    };
    (Learned { due, found, handle }, manner)
}
