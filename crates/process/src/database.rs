//! Which database a command works on: the one of a URL, or the private one.

use crate::checks::Server;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::stop::{PATIENT, Stop, UNTIL_HURRIED};
use appview::drift::{self, Drift};
use ledger::locks::{self, Hold, Lock};
use ledger::presence;
use pg::{Connection, DbError, DbErrorKind, Persistent, Step};
use postgres::Client;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Which database a command works on.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its PostgreSQL URL; without one, the private PostgreSQL of `data_dir` is meant.
    pub url: Option<String>,
    /// The AppView's schema in it.
    pub schema: String,
    /// The folder of the private PostgreSQL.
    pub data_dir: PathBuf,
}

impl Target {
    /// The URL, unless the private PostgreSQL is meant.
    fn given_url(&self) -> Option<&String> {
        self.url.as_ref().filter(|url| !url.is_empty())
    }
}

/// A database to connect to.
pub struct Database {
    /// Its PostgreSQL URL, password included.
    pub url: String,
    /// The AppView's schema in it.
    pub schema: String,
    /// Kept while the command works, so that nobody stops the server meanwhile.
    pub private: Option<pgbox::Server>,
    /// Says that this process works on the schema, as long as the connection lives.
    presence: Option<Mutex<Connection>>,
    /// Whether a server that does not answer is waited for: it answered before, or the command is
    /// there to stay.
    waits: bool,
}

impl Database {
    /// The database of the target; the private one is started if need be.
    pub fn open(target: &Target) -> Result<Self, Failure> {
        let schema = target.schema.clone();
        if let Some(url) = target.given_url() {
            return Ok(Self {
                url: url.clone(),
                schema,
                private: None,
                presence: None,
                waits: false,
            });
        }
        if let Some(variable) = ["PGHOST", "PGHOSTADDR", "PGSERVICE"]
            .into_iter()
            .find(|variable| std::env::var_os(variable).is_some())
        {
            observe::log!(
                "note: {variable} is set, and the private PostgreSQL is used; for libpq's variables set BSKY_DB_POSTGRES_URL=postgresql://"
            );
        }
        let server = pgbox::start(&target.data_dir).map_err(not_started)?;
        for notice in server.notices() {
            observe::log!("note: {notice}");
        }
        Ok(Self {
            url: server.url(),
            schema,
            private: Some(server),
            presence: None,
            waits: false,
        })
    }

    /// The database of the target, which is there: no private one is made.
    pub fn open_existing(target: &Target) -> Result<Self, Failure> {
        if target.given_url().is_none() {
            require_made(&target.data_dir)?;
        }
        Self::open(target)
    }

    /// The database of the target to work on.
    pub fn open_to_work(target: &Target) -> Result<Self, Failure> {
        Self::open(target)?.ready()
    }

    /// The same, for work that has begun: no private one is made.
    pub fn open_to_go_on(target: &Target) -> Result<Self, Failure> {
        Self::open_existing(target)?.ready()
    }

    /// The same, for a command that stays until it is stopped: a server that is away is waited for
    /// from the start. Whether a private one is made.
    pub fn open_to_stay(target: &Target, is_made: bool) -> Result<Self, Failure> {
        let mut database = match is_made {
            true => Self::open(target)?,
            false => Self::open_existing(target)?,
        };
        database.waits = true;
        database.ready()
    }

    /// The same, for looking at what was done: nothing is made at all.
    pub fn open_to_compare(target: &Target) -> Result<Self, Failure> {
        let database = Self::open_existing(target)?;
        database.require_ledger(&mut *database.connect()?)?;
        database.ready()
    }

    /// Makes sure that it is fit for work, and says that somebody works on it.
    fn ready(mut self) -> Result<Self, Failure> {
        let mut client = self.connect()?;
        // Whoever has begun waits for it.
        self.waits = true;
        self.require_sessions(&mut client)?;
        self.require_fit(&mut client)?;
        self.require_current()?;
        self.prepare_ledger()?;
        if !presence::announce(&mut *client, &self.schema).map_err(|error| self.failure(error))? {
            return Err(Failure::new(format!(
                "schema {} of {} is being dropped by another skyfill",
                self.schema,
                self.shown()
            ))
            .hint("run it again after that"));
        }
        self.presence = Some(Mutex::new(client));
        Ok(self)
    }

    /// Makes sure that sessions are skyfill's own as long as they are open.
    pub fn require_sessions(&self, client: &mut Client) -> Result<(), Failure> {
        let mut second = self.connect()?;
        let are_sessions = pg::require_sessions(client, &mut second);
        // Whoever counts the server's connections does not find it.
        second.close();
        are_sessions.map_err(|error| self.db_failure(&error))
    }

    /// Checks that the server and the database can hold the AppView's rows.
    pub fn require_fit(&self, client: &mut Client) -> Result<Server, Failure> {
        let server = Server::of(client).map_err(|error| self.failure(error))?;
        server.require_fit(&self.shown())?;
        Ok(server)
    }

    /// Checks that skyfill has worked on it.
    pub fn require_ledger(&self, client: &mut Client) -> Result<(), Failure> {
        if ledger::exists(client).map_err(|error| self.failure(error))? {
            return Ok(());
        }
        Err(
            Failure::new(format!("skyfill has not been used on {} yet", self.shown()))
                .hint_to_run("start with", "run dids.jsonl"),
        )
    }

    /// The machine that the server is on, if it is this one.
    pub fn machine(&self) -> Option<Machine> {
        let servers = pg::Settings::of(&self.url).and_then(|settings| settings.servers());
        let is_here = servers.is_ok_and(|servers| !servers.iter().any(pg::Server::is_remote));
        is_here.then(Machine::this)
    }

    /// Its URL as it may be printed.
    pub fn shown(&self) -> String {
        pg::shown(&self.url)
    }

    /// A connection for the moment. A server that is starting is waited for; so is one that does
    /// not answer, once the command has begun its work.
    pub fn connect(&self) -> Result<Connection, Failure> {
        let is_waited_for = |error: &DbError| {
            error.kind == DbErrorKind::Lost && (self.waits || error.sqlstate.is_some())
        };
        let connected = pg::persist(Step::Short, UNTIL_HURRIED, || {
            match Connection::open(&self.url) {
                Err(error) if is_waited_for(&error) => Err(error),
                connected => Ok(connected),
            }
        });
        connected.and_then(|connected| connected).map_err(|error| {
            if error.kind == DbErrorKind::Stopped {
                return self.db_failure(&error);
            }
            Failure::new(format!("cannot connect to {}: {error}", self.shown())).hint(
                error.hint.as_deref().unwrap_or(
                    "check BSKY_DB_POSTGRES_URL, and whether the server is running and admits this user",
                ),
            )
        })
    }

    /// A connection whose steps wait for the server when it goes away.
    pub fn patient<'d>(&'d self, stop: &'d Stop) -> Patient<'d> {
        Patient {
            database: self,
            session: Persistent::new(&self.url, stop.waits()),
        }
    }

    /// The same. It holds `lock` as long as it lives.
    pub fn patient_alone<'d>(&'d self, stop: &'d Stop, lock: Lock) -> Patient<'d> {
        let session = Persistent::new(&self.url, stop.waits())
            .with_setup(move |client| locks::acquire(client, lock, Hold::Session, stop.waits()));
        Patient {
            database: self,
            session,
        }
    }

    /// An error of the server, with the database that it is about.
    pub fn failure(&self, error: postgres::Error) -> Failure {
        self.db_failure(&error.into())
    }

    /// The same, of an error whose meaning is known.
    pub fn db_failure(&self, error: &DbError) -> Failure {
        let failure = Failure::new(format!("{}: {error}", self.shown()));
        if error.kind == DbErrorKind::Stopped {
            return failure.stopped();
        }
        match (&error.hint, error.sqlstate.as_deref()) {
            (Some(hint), _) => failure.hint(hint),
            // insufficient_privilege
            (None, Some("42501")) => failure.hint(
                "connect as the role that owns schema skyfill, or GRANT that role to this one",
            ),
            (None, _) => failure,
        }
    }

    /// Checks that what lies in schema `skyfill` is skyfill's.
    pub fn require_trusted(&self, client: &mut Client) -> Result<(), Failure> {
        let stranger =
            ledger::trust::stranger(client, &self.schema).map_err(|error| self.failure(error))?;
        let Some((what, owner)) = stranger else {
            return Ok(());
        };
        Err(Failure::new(format!(
            "{what} in {} belongs to {owner}; statements that are stored there would run with the rights of skyfill's role",
            self.shown()
        ))
        .hint(format!(
            "if {owner} operates skyfill as well: GRANT {owner} to this role; if not: DROP SCHEMA skyfill CASCADE"
        )))
    }

    /// Makes sure that skyfill's own tables are there.
    pub fn prepare_ledger(&self) -> Result<(), Failure> {
        let mut client = self.connect()?;
        self.require_trusted(&mut client)?;
        ledger::prepare(&mut client, PATIENT).map_err(|error| {
            self.db_failure(&error)
                .hint("skyfill stores its own tables in schema skyfill; the user must be allowed to create it")
        })
    }

    /// Makes sure that skyfill can fill the schema, and reports what it does not know of it. A
    /// private database has nobody else to migrate it.
    pub fn require_current(&self) -> Result<(), Failure> {
        let mut client = self.connect()?;
        if self.private.is_some() {
            appview::migrate::migrate(&mut client, &self.schema).map_err(Failure::new)?;
        }
        let drift = self.drift(&mut client)?.unwrap_or_else(|| Drift {
            missing: vec!["all of them"],
            ..Drift::default()
        });
        let (schema, shown) = (&self.schema, self.shown());
        if drift.is_behind() {
            return Err(Failure::new(format!(
                "schema {schema} of {shown} is not at the newest official state"
            ))
            .hint_to_run("run", "migrate"));
        }
        if !drift.problems.is_empty() {
            return Err(Failure::new(format!(
                "skyfill cannot fill schema {schema} of {shown}: {}",
                drift.problems.join("; ")
            ))
            .hint("use a skyfill made for that AppView version, or another schema (--schema)"));
        }
        if let Some(more) = drift.summary() {
            observe::log!(
                "note: schema {schema} has what this version of skyfill does not know, and leaves at its defaults: {more}"
            );
        }
        for acting in &drift.acting {
            observe::log!("note: {acting}");
        }
        Ok(())
    }

    /// How the schema differs from the official one; nothing, if it has no migrations.
    pub fn drift(&self, client: &mut Client) -> Result<Option<Drift>, Failure> {
        let look = |client: &mut Client| -> Result<Option<Drift>, postgres::Error> {
            let dropped = if ledger::exists(client)? {
                ledger::dropped::list(client, &self.schema)?
            } else {
                Vec::new()
            };
            let tables = dropped.into_iter().map(|what| what.table).collect();
            drift::examine(client, &self.schema, &tables)
        };
        look(client).map_err(|error| self.failure(error))
    }
}

/// Why the private PostgreSQL does not run, with what helps.
fn not_started(error: pgbox::PgBoxError) -> Failure {
    let is_file = matches!(error, pgbox::PgBoxError::Io { .. });
    let failure = Failure::new(error);
    match is_file {
        true => failure.hint(
            "name a folder that can be written with --data-dir, or a database with BSKY_DB_POSTGRES_URL",
        ),
        false => failure,
    }
}

/// Checks that the private database of a folder was made.
pub fn require_made(folder: &Path) -> Result<(), Failure> {
    if pgbox::is_made(folder).map_err(Failure::new)? {
        return Ok(());
    }
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    Err(
        Failure::new(format!("there is no private database in {}", folder.display())).hint(
            "name its folder with --data-dir, or another database with BSKY_DB_POSTGRES_URL; skyfill run DID-FILE and skyfill db start create one",
        ),
    )
}

/// A connection whose steps wait for the server when it goes away, and are done again then.
pub struct Patient<'d> {
    database: &'d Database,
    session: Persistent<'d>,
}

impl Patient<'_> {
    /// Does a step.
    pub fn run<T, E: Into<DbError>>(
        &mut self,
        step: impl FnMut(&mut Client) -> Result<T, E>,
    ) -> Result<T, Failure> {
        self.session.run(step).map_err(|error| {
            let failure = self.database.db_failure(&error);
            failure.hint("what was stored stays stored; fix this, then run it again")
        })
    }
}
