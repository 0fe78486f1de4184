//! Archives of CARs as commands use them: opened, proved, merged and pruned, with progress, and
//! with what helps where one cannot be used.

use archive::rewrite::{Rewrite, Rewritten};
use archive::{Archive, ArchiveError, Check, Checked, Finding, OpenOptions, Place};
use ledger::failpoint;
use observe::{Counter, Progress, printable};
use process::{Failure, Stop};

/// What helps against an archive that cannot be read, if nothing better is known.
const READABLE: &str =
    "name an archive that --keep-cars filled, or a folder or bucket of .car files";

/// Opens an archive to read from it.
///
/// # Errors
/// It cannot be read.
pub fn open(place: &Place, options: &OpenOptions) -> Result<Archive, Failure> {
    Archive::open(place, options).map_err(|error| unusable(&error, READABLE))
}

/// Why an archive cannot be used, with what helps; `otherwise`, if nothing better is known.
pub(crate) fn unusable(error: &ArchiveError, otherwise: &'static str) -> Failure {
    Failure::new(error).hint(error.hint().unwrap_or(otherwise))
}

/// Work on whole archives.
pub struct Archives<'a> {
    /// How they are read.
    pub options: &'a OpenOptions,
    /// Receives each CAR with which something is wrong.
    pub found: &'a (dyn Fn(&Finding) + Sync),
    /// Ends it early.
    pub stop: &'a Stop,
}

impl Archives<'_> {
    /// Proves an archive by itself, on so many threads; nothing, if it was stopped.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn verify(&self, place: &Place, threads: usize) -> Result<Option<Checked>, Failure> {
        let counter = Counter::rated("cars_checked", "CARs");
        let _progress = Progress::begin("verify-archive", vec![counter.clone()], None);
        let checked = Check {
            place,
            access: &self.options.access,
            threads,
            memory: usize::try_from(self.options.memory).unwrap_or(usize::MAX),
            spool: &self.options.spool,
            found: self.found,
            progress: &|cars| counter.add(cars),
            stop: &|| self.stop.is_set(),
        }
        .run()
        .map_err(|error| unusable(&error, READABLE))?;
        Ok((!self.stop.is_set()).then_some(checked))
    }

    /// Adds to `into` the newest CAR of each account in `from`. What was done before a stop stays,
    /// and is not done twice.
    ///
    /// # Errors
    /// An archive cannot be read or written.
    pub fn merge(&self, from: &[Place], into: &Place) -> Result<Rewritten, Failure> {
        self.rewrite("merge-archives", |rewrite| rewrite.merge(from, into, &note))
    }

    /// Removes from an archive the CARs that are not the newest of their accounts. What was done
    /// before a stop stays.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn prune(&self, place: &Place) -> Result<Rewritten, Failure> {
        self.rewrite("prune-archive", |rewrite| rewrite.prune(place, &note))
    }

    fn rewrite(
        &self,
        task: &'static str,
        work: impl FnOnce(&Rewrite<'_>) -> Result<Rewritten, ArchiveError>,
    ) -> Result<Rewritten, Failure> {
        let counter = Counter::rated("cars_seen", "CARs");
        let _progress = Progress::begin(task, vec![counter.clone()], None);
        let done = work(&Rewrite {
            access: &self.options.access,
            spool: &self.options.spool,
            memory: self.options.memory,
            found: self.found,
            progress: &|cars| counter.add(cars),
            removing: &|| failpoint::pass("remove"),
            stop: &|| self.stop.is_set(),
        });
        done.map_err(|error| unusable(&error, READABLE))
    }
}

fn note(text: &str) {
    observe::log!("note: {}", printable(text));
}
