//! The tests' PostgreSQL, started on first use, and a database of its own for each test.

use crate::comparison::dump_of;
use postgres::{Client, NoTls};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The one server that all tests share. A test that needs a server to kill starts one itself.
fn server() -> &'static pgbox::Server {
    static SERVER: OnceLock<pgbox::Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        // What a test wrote need not survive the machine, only the server's processes. Databases
        // are small and many, and so are connections: each maps the buffers that it touches.
        let settings = [
            ("fsync", "off"),
            ("full_page_writes", "off"),
            ("wal_compression", "off"),
            ("max_wal_size", "512MB"),
            ("synchronous_commit", "off"),
            ("max_connections", "300"),
            ("shared_buffers", "128MB"),
        ];
        let folder = clusters().unwrap_or_else(|| target().join("tmp"));
        let server = pgbox::start_with(&folder.join("postgres"), &settings).expect("the server");
        drop_databases_of_ended_processes(&server);
        server
    })
}

/// Where clusters go if not into cargo's target folder: `make test` names a folder in memory, since
/// most of the work of making a database is making its files.
fn clusters() -> Option<PathBuf> {
    std::env::var_os("SKYFILL_TESTS_CLUSTERS").map(PathBuf::from)
}

/// A folder for a cluster of one test.
#[must_use]
pub fn cluster_folder() -> tempfile::TempDir {
    let folder = match clusters() {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    };
    crate::opened(folder.expect("a folder for a cluster"))
}

/// Cargo's target folder, by where it put the test that runs: in `PROFILE/deps`.
pub(crate) fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let target = test
        .ancestors()
        .nth(3)
        .expect("it is in target/PROFILE/deps");
    target.to_owned()
}

/// Drops the databases that killed test processes left behind.
fn drop_databases_of_ended_processes(server: &pgbox::Server) {
    let mut client = connect(&server.url_of("postgres"));
    let names = "SELECT datname FROM pg_database WHERE datname ~ '^test_[0-9]+_[0-9]+$'";
    for row in client.query(names, &[]).expect("list databases") {
        let name: String = row.get(0);
        let process = name.split('_').nth(1).and_then(|pid| pid.parse().ok());
        let is_running = process
            .and_then(Pid::from_raw)
            .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
        if !is_running {
            // Another process that begins at the same time may have dropped it.
            drop(client.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
        }
    }
}

fn connect(url: &str) -> Client {
    Client::connect(url, NoTls).expect("connect")
}

/// A database of a test's own. It is dropped with the value.
pub struct TestDb {
    name: String,
    /// How to connect to it.
    pub url: String,
}

impl TestDb {
    /// An empty one.
    #[must_use]
    pub fn empty() -> Self {
        Self::made_with("")
    }

    /// An empty one with these options of CREATE DATABASE.
    #[must_use]
    pub fn made_with(options: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        connect(&server.url_of("postgres"))
            .batch_execute(&format!("CREATE DATABASE {name} {options}"))
            .expect("make a database");
        let url = server.url_of(&name);
        Self { name, url }
    }

    /// One with the official schema: a copy of one that the first test to come migrated.
    #[must_use]
    pub fn migrated() -> Self {
        static TEMPLATE: OnceLock<TestDb> = OnceLock::new();
        let template = TEMPLATE.get_or_init(|| {
            let db = Self::empty();
            appview::migrate::migrate(&mut db.client(), "bsky").expect("migrate");
            db
        });
        Self::made_with(&format!("TEMPLATE {}", template.name))
    }

    /// One on a server of the test's own, which ends with it.
    #[must_use]
    pub fn elsewhere(url: String) -> Self {
        Self {
            name: String::new(),
            url,
        }
    }

    /// Another one with all that is in this one. No session may be open here.
    #[must_use]
    pub fn copied(&self) -> Self {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1";
        let mut client = connect(&server().url_of("postgres"));
        crate::waiting::wait_until("the end of all sessions", || {
            client
                .query_one(others, &[&self.name])
                .expect("look")
                .get::<_, i64>(0)
                == 0
        });
        Self::made_with(&format!("TEMPLATE {}", self.name))
    }

    /// A new connection.
    #[must_use]
    pub fn client(&self) -> Client {
        connect(&self.url)
    }

    /// How many rows a table of schema `bsky` has.
    #[must_use]
    pub fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM bsky.\"{table}\"");
        self.client().query_one(&sql, &[]).expect("count").get(0)
    }

    /// Empties all tables that repos fill. Of few rows, deleting them is quicker than truncating
    /// tables, which makes all their files anew.
    pub fn delete_all(&self) {
        let beside = [
            "duplicate_record",
            "post_agg",
            "profile_agg",
            "actor",
            "actor_sync",
        ];
        let of_repos = appview::table::ALL.iter().map(|table| table.name);
        let mut sql: String = of_repos
            .chain(beside)
            .map(|table| format!("DELETE FROM bsky.\"{table}\";"))
            .collect();
        sql += "DO $$ BEGIN IF to_regclass('skyfill.repo') IS NOT NULL THEN
                  DELETE FROM skyfill.repo; DELETE FROM skyfill.part; DELETE FROM skyfill.skipped;
                END IF; END $$";
        self.client().batch_execute(&sql).expect("delete all rows");
    }

    /// The rows of every table as JSON, as [`dump_of`] has them.
    #[must_use]
    pub fn dump(&self) -> BTreeMap<String, Vec<String>> {
        dump_of(&mut self.client())
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        // A test that has failed already is not to panic again.
        if let Ok(mut client) = Client::connect(&server().url_of("postgres"), NoTls) {
            let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
            drop(client.batch_execute(&sql));
        }
    }
}
