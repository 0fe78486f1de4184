//! Which database a command works on: the one of a URL, or the private one.

use crate::cli::DatabaseArgs;
use crate::exit::Failure;
use crate::signals::{PATIENT, Stop};
use ledger::locks::{self, Hold, Lock};
use pg::{DbError, DbErrorKind, Persistent};
use postgres::Client;

/// A database to connect to.
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) schema: String,
    /// Kept while the command works, so that nobody stops the server meanwhile.
    pub(crate) private: Option<pgbox::Server>,
}

impl Database {
    /// The database of the arguments; the private one is started if need be.
    pub(crate) fn open(args: &DatabaseArgs) -> Result<Self, Failure> {
        let schema = args.schema.clone();
        if let Some(url) = args.database_url.as_ref().filter(|url| !url.is_empty()) {
            return Ok(Self {
                url: url.clone(),
                schema,
                private: None,
            });
        }
        let server = pgbox::start(&args.folder.data_dir).map_err(Failure::new)?;
        for notice in server.notices() {
            observe::log!("note: {notice}");
        }
        Ok(Self {
            url: server.url(),
            schema,
            private: Some(server),
        })
    }

    /// Its URL as it may be printed.
    pub(crate) fn shown(&self) -> String {
        pg::shown(&self.url)
    }

    /// Connects.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        pg::connect(&self.url).map_err(|error| {
            Failure::new(format!("connect to {}: {error}", self.shown()))
                .hint("check BSKY_DB_POSTGRES_URL, and that the server runs and lets this user in")
        })
    }

    /// A connection whose steps wait for the server when it goes away. It holds `lock` as long as it lives.
    pub(crate) fn patient_alone<'d>(&'d self, stop: &'d Stop, lock: Lock) -> Patient<'d> {
        let session = Persistent::new(&self.url, stop.waits())
            .with_setup(move |client| locks::take(client, lock, Hold::Session, stop.waits()));
        Patient {
            database: self,
            session,
        }
    }

    /// An error of the server, with the database that it is about.
    pub(crate) fn failure(&self, error: postgres::Error) -> Failure {
        self.db_failure(&error.into())
    }

    /// The same, of an error whose meaning is known.
    pub(crate) fn db_failure(&self, error: &DbError) -> Failure {
        let failure = Failure::new(format!("{}: {error}", self.shown()));
        if error.kind == DbErrorKind::Stopped {
            return failure.stopped();
        }
        failure
    }

    /// Makes sure that skyfill's own tables are there.
    pub(crate) fn prepare_ledger(&self) -> Result<(), Failure> {
        let mut client = self.connect()?;
        ledger::prepare(&mut client, PATIENT).map_err(|error| {
            self.db_failure(&error)
                .hint("skyfill keeps what it needs for itself in schema skyfill; the user must be allowed to make it")
        })
    }

    /// Makes sure that the schema is there and current. A private database has nobody else to migrate it.
    pub(crate) fn require_current(&self) -> Result<(), Failure> {
        let mut client = self.connect()?;
        if self.private.is_some() {
            appview::migrate::migrate(&mut client, &self.schema).map_err(Failure::new)?;
        }
        if appview::migrate::is_current(&mut client, &self.schema).map_err(|error| self.failure(error))? {
            return Ok(());
        }
        let schema = &self.schema;
        Err(Failure::new(format!(
            "schema {schema} of {} is not at the newest official state",
            self.shown()
        ))
        .hint("run: skyfill migrate"))
    }
}

/// A connection whose steps wait for the server when it goes away, and are done again then.
pub(crate) struct Patient<'d> {
    database: &'d Database,
    session: Persistent<'d>,
}

impl Patient<'_> {
    /// Does a step.
    pub(crate) fn run<T, E: Into<DbError>>(
        &mut self,
        step: impl FnMut(&mut Client) -> Result<T, E>,
    ) -> Result<T, Failure> {
        self.session.run(step).map_err(|error| {
            let failure = self.database.db_failure(&error);
            failure.hint("what was stored before stays; mend this, then run it again")
        })
    }
}
