//! Which database a command works on: the one of a URL, or the private one.

use crate::cli::DatabaseArgs;
use crate::exit::Failure;
use postgres::config::Host;
use postgres::{Client, Config, NoTls};

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
        shown(&self.url)
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

    /// Makes sure that skyfill's own tables are there.
    pub(crate) fn prepare_ledger(&self) -> Result<(), Failure> {
        let mut client = self.connect()?;
        ledger::prepare(&mut client).map_err(|error| {
            self.failure(error)
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

/// Where a URL leads, without its secrets: user, hosts, ports and database, and nothing else of it.
fn shown(url: &str) -> String {
    let Ok(config) = url.parse::<Config>() else {
        return "a database whose URL does not parse".to_owned();
    };
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let port = config
                .get_ports()
                .get(at)
                .or(config.get_ports().first())
                .copied()
                .unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(folder) => folder.display().to_string(),
            }
        })
        .collect();
    let user = config
        .get_user()
        .map(|user| format!("{user}@"))
        .unwrap_or_default();
    format!(
        "{user}{}/{}",
        hosts.join(","),
        config.get_dbname().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn no_password_is_shown() {
        assert_eq!(shown("postgresql://u:hunter2@h:54/d"), "u@h:54/d");
        assert_eq!(shown("postgresql://u:hunter2@/d?host=/run"), "u@/run/d");
        assert_eq!(shown("postgresql://u:hunter2@a:1,b:2/d"), "u@a:1,b:2/d");
        for url in [
            "host=h password = hunter2 dbname=d",
            "host=h password='a hunter2'",
            "nonsense hunter2",
            "postgresql:///d?sslpassword=hunter2",
        ] {
            assert!(!shown(url).contains("hunter2"), "{}", shown(url));
        }
    }
}
