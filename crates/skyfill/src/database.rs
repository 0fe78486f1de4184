//! Which database a command works on: the one of a URL, or the private one.

use crate::cli::DatabaseArgs;
use crate::exit::Failure;
use observe::redact;
use postgres::{Client, NoTls};

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
            eprintln!("note: {notice}");
        }
        Ok(Self {
            url: server.url(),
            schema,
            private: Some(server),
        })
    }

    /// Its URL as it may be printed.
    pub(crate) fn shown(&self) -> String {
        redact(&self.url)
    }

    /// Connects.
    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.url, NoTls).map_err(|error| {
            Failure::new(format!(
                "connect to {}: {}",
                self.shown(),
                load::DbError::from(error)
            ))
            .hint("check BSKY_DB_POSTGRES_URL, and that the server runs and lets this user in")
        })
    }

    /// An error of the server, with the database that it is about.
    pub(crate) fn failure(&self, error: postgres::Error) -> Failure {
        Failure::new(format!("{}: {}", self.shown(), load::DbError::from(error)))
    }

    /// Makes sure that the schema is there and current.
    pub(crate) fn require_current(&self) -> Result<(), Failure> {
        let mut client = self.connect()?;
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
