//! DID documents: where they are requested, and what the ledger keeps of them.

use fetch::OneServer;
use identity::document::Document;
use identity::export::{Export, Latest};
use identity::handle;
use identity::resolve::{self, Found, Resolver};
use ledger::identity::{DocumentNote, DocumentState};
use process::Failure;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// A page of the PLC export may take at least this long.
const LEAST_EXPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// Where documents and handles are asked for, and who asks.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The User-Agent of all requests.
    pub user_agent: String,
    /// The PLC directory.
    pub plc_url: String,
    /// Its pace: documents, logs and the export count together, in all steps of a command.
    pub plc_pace: OneServer,
    /// A server that is asked for all documents of did:web.
    pub web_server: Option<String>,
    /// A DNS server, instead of the system's.
    pub dns_server: Option<SocketAddr>,
    /// A server that is asked for all well-known files of handles.
    pub well_known_server: Option<String>,
    /// Time for each request.
    pub timeout: Duration,
    /// Whether hosts on private networks and on this machine are asked, too.
    pub allow_private_hosts: bool,
}

impl Directory {
    /// Resolves DIDs, with so many attempts at each document.
    pub(crate) fn documents(&self, attempts: u32) -> Result<Resolver, Failure> {
        let settings = resolve::Settings {
            plc_url: self.plc_url.clone(),
            plc_pace: self.plc_pace.clone(),
            web_server: self.web_server.clone(),
            allow_private_hosts: self.allow_private_hosts,
            timeout: self.timeout,
            attempts,
        };
        Resolver::new(&self.user_agent, settings).map_err(Failure::new)
    }

    /// Resolves handles.
    pub(crate) fn handles(&self) -> Result<handle::Resolver, Failure> {
        let settings = handle::Settings {
            dns_server: self.dns_server,
            well_known_server: self.well_known_server.clone(),
            allow_private_hosts: self.allow_private_hosts,
            timeout: self.timeout,
        };
        handle::Resolver::new(&self.user_agent, settings).map_err(Failure::new)
    }

    /// Reads the export of the PLC directory.
    pub(crate) fn export(&self) -> Result<Export, Failure> {
        let timeout = self.timeout.max(LEAST_EXPORT_TIMEOUT);
        let pace = self.plc_pace.clone();
        Export::new(&self.user_agent, self.export_url(), timeout, pace).map_err(Failure::new)
    }

    /// The directory, as cursors of its export name it.
    pub(crate) fn export_url(&self) -> &str {
        self.plc_url.trim_end_matches('/')
    }
}

/// A good document that was fetched now.
pub(crate) fn good(did: String, document: Document) -> DocumentNote {
    DocumentNote {
        claimed_handle: document.handle,
        pds: Some(document.pds),
        signing_key: Some(document.signing_key),
        ..bare(did, DocumentState::Good, None)
    }
}

/// What a look at a document found.
pub(crate) fn note(did: String, found: &Found) -> DocumentNote {
    match found {
        Found::Document(document) => good(did, document.clone()),
        Found::Gone => bare(did, DocumentState::Gone, None),
        Found::Useless(error) => bare(did, DocumentState::Useless, Some(error.to_string())),
        Found::Unreachable(error) => bare(did, DocumentState::Unreachable, Some(error.clone())),
        Found::Unsupported => bare(did, DocumentState::Unsupported, None),
    }
}

/// What a page of the export says of documents. They are as fresh as the export: whoever reads it
/// to its end knows.
pub(crate) fn notes_of_export(latest: &BTreeMap<String, Latest>) -> Vec<DocumentNote> {
    let note = |(did, latest): (&String, &Latest)| {
        let note = match latest {
            Latest::Document(document) => good(did.clone(), document.clone()),
            Latest::Useless(error) => {
                bare(did.clone(), DocumentState::Useless, Some(error.to_string()))
            }
            Latest::Tombstone => bare(did.clone(), DocumentState::Gone, None),
        };
        DocumentNote {
            is_fresh: false,
            ..note
        }
    };
    latest.iter().map(note).collect()
}

fn bare(did: String, state: DocumentState, error: Option<String>) -> DocumentNote {
    DocumentNote {
        did,
        state,
        claimed_handle: None,
        pds: None,
        signing_key: None,
        error,
        is_fresh: true,
        heard: None,
    }
}
