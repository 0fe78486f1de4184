//! Records as files for others: Parquet for DuckDB and polars, JSON lines for any program; from
//! the database, straight from an archive of CARs, or from the stream of records as they change
//! ([`tee`]).
//!
//! An export is a folder. Records lie in `collection=NSID/month=YYYY-MM/part-NNNNNN.parquet`, as
//! both programs read partitions; the month is that of `sortAt`, the time by which the AppView
//! sorts. Columns are those of the AppView's tables (`appview::table`), with DID, CID, rev and the
//! record as JSON; they are computed from the record, not joined. `manifest.json` is written last,
//! with counts and hashes by collection ([`Tally`]); the counts are checked against the ledger's.
//!
//! Accounts are cut into parts (`plan`). Threads take parts, one after the other: each reads its
//! records, sorts them by collection and month within its share of the memory (`partitions`), and
//! writes one file for each. A part is done when its manifest is there, and begun again until then:
//! whenever the process stops, there is no torn file, and no record twice.
//!
//! For the whole network (20 billion records, 400 parts of 50 million): some 20 partitions by 45
//! months have 900 files per part, 360,000 in all. By the size of
//! records, not measured, a part needs some 10 GB of the spool.

mod batch;
mod cars;
mod choice;
mod database;
mod encode;
mod exported;
mod folder;
mod lines_file;
mod month;
mod parquet_file;
mod part;
mod partitions;
mod plan;
mod shape;
mod tally;
pub mod tee;

pub use choice::{Choice, NotACollection};
pub use exported::Exported;
pub use plan::{Damaged, FileEntry, Format, From, MANIFEST, Manifest, Mismatch};
pub use tally::{Tallies, Tally};

use archive::Archive;
use fetch::Spool;
use folder::Folder;
use ledger::failpoint;
use observe::units::counted;
use observe::{Counter, Progress, printable};
use part::{Common, Part};
use partitions::Content;
use pg::Persistent;
use plan::{PartManifest, Plan, is_ours, manifest_of, part_of};
use process::{Database, Failure, Stop, threads};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// How to export.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder to export to.
    pub folder: PathBuf,
    /// The form of the files.
    pub format: Format,
    /// The collections.
    pub choice: Choice,
    /// Records of a part, about.
    pub part_records: u64,
    /// Threads, each with a connection to the database.
    pub threads: usize,
    /// Memory of the process, in bytes.
    pub memory: u64,
    /// Where rows wait that exceed it.
    pub spool: Spool,
    /// Time of the export, in milliseconds since 1970.
    pub now: i64,
}

/// Where records come from.
#[derive(Clone, Copy)]
pub enum Source<'s> {
    /// The table `record`.
    Database(&'s Database),
    /// An archive of CARs.
    Archive(&'s Archive),
}

impl Source<'_> {
    fn in_plan(&self) -> From {
        match self {
            Self::Database(database) => From::Database(database.schema.clone()),
            Self::Archive(_) => From::Archive,
        }
    }

    /// What is left of so much memory beside the source's own, in bytes.
    fn memory_beside(&self, memory: u64) -> usize {
        let own = match self {
            Self::Database(_) => 0,
            Self::Archive(archive) => archive.memory(memory),
        };
        usize::try_from(memory.saturating_sub(own)).unwrap_or(usize::MAX)
    }
}

/// How an export ended.
#[derive(Debug)]
pub enum ExportEnd {
    /// It is done, now or before.
    Done(Box<Exported>),
    /// It was stopped.
    Stopped,
}

/// Exports, or continues an export.
///
/// # Errors
/// The database, the archive or the folder cannot be used.
pub fn export(options: &Options, source: Source<'_>, stop: &Stop) -> Result<ExportEnd, Failure> {
    let is_torn = log_notes(source);
    let folder = Folder::open(&options.folder)?;
    let plan = plan_of(options, source, &folder)?;
    let done = |manifest, was_done| {
        ExportEnd::Done(Box::new(Exported {
            folder: options.folder.clone(),
            manifest,
            was_done,
            is_torn,
        }))
    };
    if let Some(manifest) = Manifest::read(&folder)? {
        return Ok(done(manifest, true));
    }
    let open = open_parts(&folder, &plan)?;
    let counter = Counter::rated("records_exported", "records");
    let total = match source {
        Source::Database(database) => database::records(database)?,
        Source::Archive(archive) => cars::records(archive),
    };
    let progress = Progress::begin("export", vec![counter.clone()], Some(total));
    let done_before = (plan.parts() - open.len()) as u64 * (total / plan.parts() as u64);
    counter.add(done_before);
    progress.done_before(done_before);
    let threads = options.threads.clamp(1, open.len().max(1));
    let work = Work {
        common: Common {
            folder: &folder,
            format: plan.format,
            content: Content::Records,
            now: plan.now,
            choice: &options.choice,
            collections: None,
            spool: &options.spool,
            memory: source.memory_beside(options.memory) / threads,
            stop,
        },
        plan: &plan,
        source,
        open: &open,
        next: AtomicUsize::new(0),
        counter: &counter,
        failed: Mutex::new(None),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                threads::guarded(
                    "exporting",
                    |why| work.fail(Failure::new(why)),
                    || work.run(),
                );
            });
        }
    });
    drop(progress);
    if let Some(failure) = work
        .failed
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
    {
        return Err(failure);
    }
    if stop.is_set() {
        return Ok(ExportEnd::Stopped);
    }
    Ok(done(Manifest::write(&folder, &plan)?, false))
}

/// Reports what of the source cannot be read; whether there is any.
fn log_notes(source: Source<'_>) -> bool {
    let Source::Archive(archive) = source else {
        return false;
    };
    for note in archive.notes() {
        observe::log!("note: {}", printable(&note));
    }
    archive.notes().next().is_some()
}

/// The plan that the folder has, or a new one.
fn plan_of(options: &Options, source: Source<'_>, folder: &Folder) -> Result<Plan, Failure> {
    let (from, words) = (source.in_plan(), options.choice.words());
    if let Some(plan) = Plan::read(folder, options.format, &from, &words)? {
        return Ok(plan);
    }
    let (records, threads) = (options.part_records, options.threads as u64);
    let cuts = match source {
        Source::Database(database) => database::plan(database, records, threads)?,
        Source::Archive(archive) => cars::plan(archive, records, threads)?,
    };
    let plan = Plan::new(options.format, from, words, options.now, cuts);
    plan.write(folder)?;
    Ok(plan)
}

/// The parts that are not done; what is left over of them is removed.
fn open_parts(folder: &Folder, plan: &Plan) -> Result<Vec<usize>, Failure> {
    let is_done = |part: usize| folder.path(&manifest_of(part)).exists();
    let removed = folder.remove(&|name, is_unfinished| match is_unfinished {
        true => is_ours(name),
        false => part_of(name).is_some_and(|part| !is_done(part)),
    })?;
    if removed > 0 {
        let files = counted(removed, "file");
        observe::log!("removed {files} of parts that were not done");
    }
    let open: Vec<usize> = (0..plan.parts()).filter(|part| !is_done(*part)).collect();
    if open.len() < plan.parts() {
        let (done, all) = (plan.parts() - open.len(), plan.parts());
        let all = counted(all as u64, "part");
        observe::log!("{done} of {all} done; continuing with the others");
    }
    Ok(open)
}

/// What the threads share.
struct Work<'w> {
    common: Common<'w>,
    plan: &'w Plan,
    source: Source<'w>,
    open: &'w [usize],
    /// The position in `open` of the next part.
    next: AtomicUsize,
    counter: &'w Counter,
    /// Why it cannot go on.
    failed: Mutex<Option<Failure>>,
}

impl Work<'_> {
    fn fail(&self, failure: Failure) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get_or_insert(failure);
    }

    fn has_failed(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some()
    }

    /// Takes parts until there are none.
    fn run(&self) {
        let outcome = match self.source {
            Source::Database(database) => self.export_database(database),
            Source::Archive(archive) => self.export_archive(archive),
        };
        if let Err(failure) = outcome {
            self.fail(failure);
        }
    }

    fn next_part(&self) -> Option<usize> {
        if self.common.stop.is_set() || self.has_failed() {
            return None;
        }
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.open.get(at).copied()
    }

    fn export_database(&self, database: &Database) -> Result<(), Failure> {
        let (schema, stop) = (&database.schema, self.common.stop);
        let mut session = Persistent::new(&database.url, stop.waits())
            .with_setup(|client| database::begin(client, schema));
        while let Some(number) = self.next_part() {
            // A part that the server broke off is begun again.
            let read = session.run(|client| {
                let mut part = Part::new(&self.common, number);
                let accounts = self.plan.accounts(number);
                match database::read(client, schema, (&mut part, accounts), self.counter, stop) {
                    Ok(()) => Ok(Ok(Some(part))),
                    Err(database::CutShort::Database(error)) => Err(error),
                    Err(database::CutShort::Failed(failure)) => Ok(Err(failure)),
                    Err(database::CutShort::Stopped) => Ok(Ok(None)),
                }
            });
            let read = read.map_err(|error| {
                database
                    .db_failure(&error)
                    .hint_to_go_on("parts that are done stay done;")
            })?;
            let Some(part) = read? else { return Ok(()) };
            self.finish(part)?;
        }
        Ok(())
    }

    fn export_archive(&self, archive: &Archive) -> Result<(), Failure> {
        let reader = cars::Reader {
            archive,
            spool: self.common.spool,
            memory: self.common.memory / 4,
            now: self.common.now,
            counter: self.counter,
            stop: self.common.stop,
        };
        while let Some(number) = self.next_part() {
            let mut part = Part::new(&self.common, number);
            if !reader.read(&mut part, self.plan.accounts(number))? {
                return Ok(());
            }
            self.finish(part)?;
        }
        Ok(())
    }

    /// Writes the files of a part, then its manifest.
    fn finish(&self, part: Part<'_>) -> Result<(), Failure> {
        let number = part.number();
        let Some(written) = part.write()? else {
            return Ok(());
        };
        let manifest = PartManifest {
            accounts: self.plan.accounts(number),
            repos: written.repos,
            collections: written.collections,
            files: written.files,
            mismatches: written.mismatches,
            damaged: written.damaged,
        };
        let folder = self.common.folder;
        folder.write_json(&manifest_of(number), &manifest)?;
        failpoint::pass("part-done");
        tracing::debug!("a part is done");
        Ok(())
    }
}
