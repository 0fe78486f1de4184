//! A session: the resources of a command that loads, from its start to its end.

use crate::archives;
use crate::certificate::Place;
use crate::discovery::{Discovery, Source};
use crate::identities;
use crate::observer::Observer;
use crate::run::options::LoadOptions;
use crate::run::walked::Walked;
use archive::{Archive, ArchiveWriter};
use observe::Workers;
use process::{Database, Failure, Stop, threads};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::runtime::Runtime;

/// What a command that loads works with.
pub struct Session<'s> {
    /// The database.
    pub database: &'s Database,
    /// How it loads.
    pub options: &'s LoadOptions,
    /// Where tasks run.
    pub runtime: Arc<Runtime>,
    /// What each thread and task does, for people.
    pub workers: Workers,
    /// Whether to stop.
    pub stop: Stop,
    pub(crate) observer: &'s dyn Observer,
    /// The archive that what is fetched is added to.
    pub(crate) keep: Option<Arc<Mutex<ArchiveWriter>>>,
    /// Repos that were fetched before the load.
    pub(crate) walked: OnceLock<Arc<Walked>>,
    /// An archive that is read before hosts are asked.
    pub(crate) second: OnceLock<Arc<Archive>>,
}

impl<'s> Session<'s> {
    /// Opens all that the options name, so that nothing of it fails when the work is done.
    ///
    /// # Errors
    /// A file or folder cannot be written.
    pub fn open(
        database: &'s Database,
        options: &'s LoadOptions,
        observer: &'s dyn Observer,
        workers: Workers,
        stop: Stop,
    ) -> Result<Self, Failure> {
        // Before any work: the place is claimed for good when the comparison is near.
        options
            .certificate
            .as_deref()
            .map(Place::claim)
            .transpose()?;
        let keep = match &options.keep_cars {
            Some(place) => {
                let writer = ArchiveWriter::open(place, &options.access, options.scale.memory)
                    .map_err(|error| {
                        archives::unusable(&error, "name a writable folder with --keep-cars")
                    })?;
                Some(Arc::new(Mutex::new(writer)))
            }
            None => None,
        };
        Ok(Self {
            database,
            options,
            runtime: Arc::new(threads::start()?),
            workers,
            stop,
            observer,
            keep,
            walked: OnceLock::new(),
            second: OnceLock::new(),
        })
    }

    /// A session for a part of the work, which may be stopped alone.
    pub(crate) fn part(&self) -> Self {
        Self {
            database: self.database,
            options: self.options,
            runtime: Arc::clone(&self.runtime),
            workers: self.workers.clone(),
            stop: self.stop.part(),
            observer: self.observer,
            keep: self.keep.clone(),
            walked: OnceLock::new(),
            second: OnceLock::new(),
        }
    }

    /// What reads documents while repos are loaded.
    pub(crate) fn documents_beside(&self) -> identities::Beside<'_> {
        identities::Beside {
            database: self.database,
            runtime: &self.runtime,
            directory: &self.options.directory,
            documents: self.options.documents,
        }
    }

    /// What a pass over `source` works with.
    pub(crate) fn discovery<'d>(&'d self, source: &'d Source) -> Discovery<'d> {
        Discovery {
            database: self.database,
            runtime: &self.runtime,
            stop: &self.stop,
            source,
            fetch: &self.options.fetch,
            directory: &self.options.directory,
        }
    }
}
