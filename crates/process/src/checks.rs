//! What is checked before work begins, so that hours of it do not end in something that could have
//! been known: the server, and the files and folders that are to be written.

use crate::failure::Failure;
use postgres::Client;
use rustix::fs::{Access, access};
use std::path::Path;

/// The oldest PostgreSQL that the official schema and skyfill's statements run on, as
/// `server_version_num` has it.
const OLDEST: i32 = 140_000;

/// What of a server and its database matters.
pub struct Server {
    version_number: i32,
    version: String,
    encoding: String,
    collation: String,
    is_standby: bool,
}

impl Server {
    /// Asks the server.
    pub fn of(client: &mut Client) -> Result<Self, postgres::Error> {
        // Older servers lack some columns of pg_database: as JSON, those are NULL.
        let row = client.query_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
               pg_encoding_to_char(d.encoding)::text,
               CASE WHEN to_jsonb(d) ->> 'datlocprovider' IN ('i', 'b')
                 THEN 'ICU ' || coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale', d.datcollate::text)
                 ELSE d.datcollate::text END,
               pg_is_in_recovery()
             FROM pg_database d WHERE d.datname = current_database()",
            &[],
        )?;
        Ok(Self {
            version_number: row.try_get(0)?,
            version: row.try_get(1)?,
            encoding: row.try_get(2)?,
            collation: row.try_get(3)?,
            is_standby: row.try_get(4)?,
        })
    }

    /// Checks that the AppView's rows can be stored there; `shown` is the database for people.
    pub fn require_fit(&self, shown: &str) -> Result<(), Failure> {
        if self.version_number < OLDEST {
            return Err(Failure::new(format!(
                "{shown} is on PostgreSQL {}; skyfill needs 14 or newer",
                self.version
            ))
            .hint("upgrade the server, or name another one with BSKY_DB_POSTGRES_URL"));
        }
        if self.encoding != "UTF8" {
            return Err(Failure::new(format!(
                "{shown} has the encoding {}, which cannot store all texts of records",
                self.encoding
            ))
            .hint(
                "create a database with: CREATE DATABASE name TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
            ));
        }
        if self.is_standby {
            return Err(Failure::new(format!(
                "{shown} is on a standby server, which accepts no writes"
            ))
            .hint("name its primary server with BSKY_DB_POSTGRES_URL"));
        }
        Ok(())
    }

    /// What an operator should know of its collation, if there is anything: the rows are the same
    /// with each.
    pub fn collation_note(&self) -> Option<String> {
        let is_plain = matches!(
            self.collation.as_str(),
            "C" | "POSIX" | "C.UTF-8" | "C.utf8" | "ICU C" | "ICU C.UTF-8"
        );
        (!is_plain).then(|| {
            format!(
                "the database sorts text by {}: its indexes take longer to build than with C, and may need REINDEX after an upgrade of \
                 the server's libraries",
                self.collation
            )
        })
    }
}

/// Makes sure that `path`, which `argument` names, can be written or added to when that is due.
/// Nothing is made.
pub fn require_writable(argument: &str, path: &Path) -> Result<(), Failure> {
    if path == Path::new("-") {
        return Ok(());
    }
    let refused = |why: String| {
        Failure::usage(format!("{argument} {}: {why}", path.display()))
            .hint(format!("name a file in a writable folder with {argument}"))
    };
    if path.is_dir() {
        return Err(refused("it is a folder".to_owned()));
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let place = if path.exists() { path } else { folder };
    access(place, Access::WRITE_OK).map_err(|error| refused(error.to_string()))
}
