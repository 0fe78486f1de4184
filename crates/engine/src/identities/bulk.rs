//! Documents in bulk: the PLC export, read beside a load.
//!
//! One by one, at the directory's rate, the documents of the whole network would take weeks. The
//! export has all of them. A thread reads it while repos are fetched, at the one pace that all
//! requests to the directory have, and stores the document of every account, loaded or not. What it
//! has not read when the load ends is read before the accounts are looked up.

use crate::documents::{self, Directory};
use crate::plc_export;
use ledger::identity::{add_documents, cursor, note_documents, set_cursor};
use observe::units::counted;
use observe::{Counter, Progress};
use pg::Persistent;
use postgres::Client;
use process::{Database, Failure, Patient, Stop, threads};
use tokio::runtime::Runtime;

/// So many accounts are looked up one by one sooner than the export is read: at 20 requests per
/// second they take four hours. Handles of more are stored as claimed first, and verified later.
pub const MANY: u64 = 300_000;
/// So many claims are worth it that an export is read on that was read before.
const SOME: u64 = 1000;
/// It is looked this often whether there are so many.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// How the documents of many accounts are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documents {
    /// From the export, where there are many.
    Auto,
    /// From the export.
    Export,
    /// One by one.
    Single,
}

/// Which documents of the export are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bulk {
    /// None: documents are asked for one by one.
    Nothing,
    /// Those of accounts that are known.
    Known,
    /// All, since others are about to be loaded.
    All,
}

impl Bulk {
    /// Where the export was read to. What was noted for one schema, or came from one directory,
    /// says nothing about another; and what was left out of the documents of known accounts is
    /// still to be read for others.
    pub(crate) fn cursor_name(self, directory: &Directory, database: &Database) -> String {
        let what = match self {
            Self::All => "documents of the plc export",
            Self::Known | Self::Nothing => "plc export",
        };
        format!(
            "{what} of {} for {}",
            directory.export_url(),
            database.schema
        )
    }
}

impl Documents {
    /// The same as `of_due`, however long the server is away.
    ///
    /// # Errors
    /// The server refused.
    pub fn bulk(
        self,
        directory: &Directory,
        database: &Database,
        settles: bool,
        stop: &Stop,
    ) -> Result<Bulk, Failure> {
        let place = (directory, database);
        database
            .patient(stop)
            .run(|client| self.of_due(client, place, settles))
    }

    /// How the documents of the accounts that are due are read, and of those whose claimed handles
    /// are to be verified, if there are to be any.
    pub(crate) fn of_due(
        self,
        client: &mut Client,
        (directory, database): (&Directory, &Database),
        settles: bool,
    ) -> Result<Bulk, postgres::Error> {
        let schema = &database.schema;
        let is_many = match self {
            Self::Export => true,
            Self::Single => false,
            Self::Auto => {
                let claimed = match settles {
                    true => ledger::handles::counts(client, schema)?.claimed,
                    false => 0,
                };
                let name = Bulk::All.cursor_name(directory, database);
                ledger::identity::are_so_many_due(client, schema, MANY)?
                    || claimed >= MANY
                    || claimed >= SOME && cursor(client, &name)?.is_some()
            }
        };
        Ok(if is_many { Bulk::All } else { Bulk::Nothing })
    }
}

/// What was read of the export.
pub(crate) struct Read {
    /// Whether it was read to its end.
    pub(crate) is_whole: bool,
    /// Whether nothing had been read before.
    pub(crate) from_the_start: bool,
    /// Documents that were stored.
    pub(crate) noted: u64,
}

/// Reads the export from where the last run stopped.
///
/// # Errors
/// The database or the directory cannot be used.
pub(crate) fn read(
    (directory, bulk): (&Directory, Bulk),
    runtime: &Runtime,
    client: &mut Patient<'_>,
    database: &Database,
    stop: &Stop,
) -> Result<Read, Failure> {
    let name = bulk.cursor_name(directory, database);
    let at = client.run(|client| cursor(client, &name))?;
    let from_the_start = at.is_none();
    let pages = Counter::rated("export_pages", "pages of the export");
    let noted = Counter::rated("documents_noted", "documents stored");
    let bad = Counter::counted("bad_lines", "lines that could not be read");
    let progress = Progress::begin(
        "plc_export",
        vec![pages.clone(), noted.clone(), bad.clone()],
        None,
    );
    let is_whole = plc_export::read(directory, runtime, stop, at, |page| {
        pages.add(1);
        bad.add(page.bad_lines);
        let Some(next) = &page.cursor else {
            return Ok(());
        };
        let notes = documents::notes_of_export(&page.latest);
        noted.add(client.run(|client| -> Result<u64, postgres::Error> {
            let mut txn = client.transaction()?;
            let count = match bulk {
                Bulk::All => add_documents(&mut txn, &database.schema, &notes)?,
                Bulk::Known | Bulk::Nothing => note_documents(&mut txn, &database.schema, &notes)?,
            };
            set_cursor(&mut txn, &name, next)?;
            txn.commit()?;
            Ok(count)
        })?);
        Ok(())
    })?;
    progress.finish();
    Ok(Read {
        is_whole,
        from_the_start,
        noted: noted.get(),
    })
}

/// Where documents come from beside a load.
pub(crate) struct Beside<'b> {
    /// The database.
    pub(crate) database: &'b Database,
    /// Where tasks run.
    pub(crate) runtime: &'b Runtime,
    /// The directory.
    pub(crate) directory: &'b Directory,
    /// How documents are read.
    pub(crate) documents: Documents,
}

impl Beside<'_> {
    /// Does `work`, and reads the export meanwhile where that is worth it. If the export cannot be
    /// read, the work goes on: it is read later, or documents come one by one.
    pub(crate) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        /// Ends the thread, whatever ends the work.
        struct Over<'o>(&'o Stop);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.set();
            }
        }
        if self.documents == Documents::Single {
            return work();
        }
        let stop = Stop::default();
        std::thread::scope(|scope| {
            let _over = Over(&stop);
            scope.spawn(|| {
                let later = |why: String| {
                    if !stop.is_set() {
                        tracing::warn!("{why}; documents are read when all repos are loaded");
                    }
                };
                let read = || self.read(&stop);
                let outcome = threads::guarded("the thread that reads documents", later, read);
                if let Some(Err(failure)) = outcome {
                    later(failure.message().to_owned());
                }
            });
            work()
        })
    }

    fn read(&self, stop: &Stop) -> Result<(), Failure> {
        let database = self.database;
        if self.documents == Documents::Auto && !self.wait_for_many(stop)? {
            return Ok(());
        }
        observe::log!(
            "reading the documents of all accounts from the export of {}",
            self.directory.export_url()
        );
        // Of two processes that load, one reads them.
        let mut client = database.patient_alone(stop, ledger::locks::Lock::Export);
        let of = (self.directory, Bulk::All);
        let read = read(of, self.runtime, &mut client, database, stop)?;
        if read.is_whole {
            observe::log!("{} stored from the export", counted(read.noted, "document"));
        }
        Ok(())
    }

    /// Waits until there are many accounts; false if it was stopped before.
    fn wait_for_many(&self, stop: &Stop) -> Result<bool, Failure> {
        let (database, schema) = (self.database, &self.database.schema);
        let mut ledger = Persistent::new(&database.url, stop.waits());
        loop {
            let many = ledger.run(|client| ledger::repos::has_so_many(client, schema, MANY));
            if many.map_err(|error| database.db_failure(&error))? {
                return Ok(true);
            }
            if !stop.waits().sleep(LOOK_EVERY) {
                return Ok(false);
            }
        }
    }
}
