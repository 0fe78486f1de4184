//! The options of a load.

use crate::discovery::Source;
use crate::documents::Directory;
use crate::identities::{Documents, HandleMode};
use crate::run::new_run::NewRun;
use crate::run::scale::Scale;
use crate::run::worker::WorkerOptions;
use archive::{Access, Place};
use fetch::Spool;
use ledger::settings;
use nats::{Limits, Settings};
use postgres::Client;
use process::DidFile;
use std::path::PathBuf;

/// What a run loads, and how it begins if a new one is to begin.
pub struct Options {
    /// The repos that are added first.
    pub repos: Repos,
    /// Whether repos are looked for first.
    pub discovers: bool,
    /// Where; its relay counts for the sequence number, even if nothing is looked for.
    pub source: Source,
    /// Whether repos that failed are retried now, whatever their time.
    pub retry_failed: bool,
    /// How a new run begins.
    pub new: NewRun,
    /// Whether a run begins even if the disk is clearly too small for it.
    pub is_forced: bool,
}

/// Repos that are named.
#[derive(Default)]
pub struct Repos {
    /// A DID file.
    pub did_file: Option<DidFile>,
    /// Accounts.
    pub dids: Vec<String>,
    /// Accounts by their handles.
    pub handles: Vec<String>,
    /// An archive, or a folder of CARs, that repos come from.
    pub from_cars: Option<Place>,
    /// Whether hosts are asked for what it lacks, and for what is newer there; else nothing is
    /// asked of hosts.
    pub fetches_missing: bool,
    /// Accounts around somebody, and members of lists.
    pub around: Around,
}

impl Repos {
    /// Whether any are named, or an archive of them.
    #[must_use]
    pub fn names_any(&self) -> bool {
        self.did_file.is_some()
            || self.from_cars.is_some()
            || !self.dids.is_empty()
            || !self.handles.is_empty()
            || self.around.names_any()
    }
}

/// The accounts that are asked for by whom they are near.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Accounts, by DID or handle, whose follows are loaded with them.
    pub followed_by: Vec<String>,
    /// Follows between one of these and the accounts that are loaded with it.
    pub hops: u8,
    /// Lists, as AT-URIs, whose members are loaded with their owners.
    pub lists: Vec<String>,
    /// Maximum number of accounts.
    pub most: u64,
}

impl Around {
    /// Whether any account is asked for.
    #[must_use]
    pub fn names_any(&self) -> bool {
        !self.followed_by.is_empty() || !self.lists.is_empty()
    }

    /// Notes that accounts were chosen so.
    pub(crate) fn note(&self, client: &mut Client, schema: &str) -> Result<(), postgres::Error> {
        if !self.followed_by.is_empty() {
            settings::note_choice(client, schema, "followed-by", &self.followed_by)?;
            settings::note_choice(client, schema, "hops", &[self.hops.to_string()])?;
        }
        if !self.lists.is_empty() {
            settings::note_choice(client, schema, "list", &self.lists)?;
        }
        Ok(())
    }
}

/// The stream to which a run sends its repos.
pub struct Transport {
    /// The servers, and the name of the stream.
    pub settings: Settings,
    /// What a new stream is to be.
    pub limits: Limits,
}

/// How repos are loaded, and what comes after that.
pub struct LoadOptions {
    /// The archive that what is fetched is added to.
    pub keep_cars: Option<Place>,
    /// How object stores are reached.
    pub access: Access,
    /// What is done about handles at the end; nothing leaves the table `actor` alone.
    pub handles: Option<HandleMode>,
    /// How the documents of many accounts are read.
    pub documents: Documents,
    /// Whether the tables are compared with the signed commits at the end.
    pub verifies: bool,
    /// The file that the certificate goes to.
    pub certificate: Option<PathBuf>,
    /// Whether a host may lose any share of its accounts.
    pub accept_deletions: bool,
    /// Threads, connections, requests and memory.
    pub scale: Scale,
    /// How hosts are asked.
    pub fetch: fetch::Options,
    /// Where bodies lie that are too large for memory.
    pub spool: Spool,
    /// Where documents and handles are asked for.
    pub directory: Directory,
    /// What the process is as one of the workers on its database.
    pub worker: WorkerOptions,
    /// The stream to which repos are sent, if consumers store them.
    pub transport: Option<Transport>,
    /// Whether the event stream is followed afterwards.
    pub follows: bool,
}
