//! Plans at the size of the full network: tables that the planner takes for large, and the plans of
//! the statements that a session runs.
//!
//! The planner asks the file system how many pages a table has, and the catalog how many rows a
//! page has. So the files are made longer, without content (the file system keeps holes), and the
//! catalog says how many rows there are. Whatever runs then runs as on an empty table.

use postgres::config::Host;
use postgres::{Client, Config, NoTls};
use serde_json::Value;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Pages of a table that is taken for large; indexes have a third.
const PAGES: u32 = 4000;
/// So much of a statement is shown, in characters.
const LONGEST: usize = 600;
/// Bytes of a page.
const PAGE: u64 = 8192;

/// A session whose plans are kept.
pub struct Planned {
    /// The session.
    pub client: Client,
    plans: Arc<Mutex<Vec<String>>>,
}

/// A way in which a plan reads all of a large table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeRead {
    /// The table.
    pub table: String,
    /// The kind of scan, and its condition if it has one.
    pub scan: String,
    /// The statement.
    pub statement: String,
}

/// Lets the planner take a table for one of `rows` rows, with all of its indexes.
pub fn pretend_rows(client: &mut Client, table: &str, rows: f64) {
    let folder: String = client
        .query_one("SHOW data_directory", &[])
        .expect("the folder of the server")
        .get(0);
    client
        .batch_execute(&format!(
            "ALTER TABLE {table} SET (autovacuum_enabled = off)"
        ))
        .expect("keep autovacuum away");
    let files = client
        .query(
            "SELECT c.oid, c.relkind = 'r', pg_relation_filepath(c.oid), c.oid IN (SELECT indexrelid FROM pg_index WHERE indpred IS NOT NULL)
             FROM pg_class c WHERE c.oid = to_regclass($1)
               OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass($1))",
            &[&table],
        )
        .expect("list files");
    assert!(!files.is_empty(), "there is no table {table}");
    for file in files {
        let (oid, is_table, path): (u32, bool, String) = (file.get(0), file.get(1), file.get(2));
        let least = if is_table { PAGES } else { PAGES / 3 };
        let rows = if file.get(3) { rows / 10.0 } else { rows };
        let file = OpenOptions::new()
            .write(true)
            .open(Path::new(&folder).join(path))
            .expect("open a file of a table");
        // What was added behind an earlier hole stays.
        let bytes = file.metadata().expect("its size").len();
        let pages = u64::from(least).max(bytes / PAGE);
        file.set_len(pages * PAGE).expect("make a hole");
        client
            .execute(
                "UPDATE pg_class SET reltuples = $2::float8, relpages = $3, relallvisible = $3 WHERE oid = $1",
                &[&oid, &rows, &i32::try_from(pages).expect("few pages")],
            )
            .expect("change the catalog");
    }
}

impl Planned {
    /// Connects, and keeps the plans of all statements from then on.
    #[must_use]
    pub fn connect(url: &str) -> Self {
        let mut config: Config = url.parse().expect("a URL");
        let plans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&plans);
        config.notice_callback(move |notice| {
            let mut plans = kept.lock().unwrap_or_else(PoisonError::into_inner);
            plans.push(notice.message().to_owned());
        });
        assert!(
            config
                .get_hosts()
                .iter()
                .all(|host| matches!(host, Host::Unix(_))),
            "the tests' own server"
        );
        let mut client = config.connect(NoTls).expect("connect");
        client
            .batch_execute(
                "LOAD 'auto_explain';
                 SET auto_explain.log_min_duration = 0; SET auto_explain.log_level = notice;
                 SET auto_explain.log_nested_statements = on; SET auto_explain.log_format = json;
                 SET client_min_messages = notice; SET jit = off",
            )
            .expect("keep plans");
        Self { client, plans }
    }

    /// What the statements since the last call read as a whole, of the tables that `is_large`
    /// names. Besides scans, that is an index of which no condition is used, or none but the schema
    /// of the AppView, which all rows have in common.
    #[must_use]
    pub fn whole_reads(&mut self, is_large: &dyn Fn(&str) -> bool) -> Vec<WholeRead> {
        let mut found = Vec::new();
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!plans.is_empty(), "no plan was kept");
        for text in plans.drain(..) {
            let Some((_, json)) = text.split_once("plan:\n") else {
                continue;
            };
            let plan: Value = serde_json::from_str(json).expect("a plan as JSON");
            let statement = plan["Query Text"].as_str().unwrap_or_default();
            let statement: String = statement.chars().take(LONGEST).collect();
            walk(&plan["Plan"], None, &mut |node, table| {
                if let Some(scan) = reads_all(node).filter(|_| is_large(table)) {
                    found.push(WholeRead {
                        table: table.to_owned(),
                        scan,
                        statement: statement.clone(),
                    });
                }
            });
        }
        found
    }
}

/// Calls `each` with each node and the table that it is about.
fn walk(node: &Value, table: Option<&str>, each: &mut dyn FnMut(&Value, &str)) {
    let own = node["Relation Name"].as_str().or(table);
    if let Some(own) = own {
        each(node, own);
    }
    for below in node["Plans"].as_array().into_iter().flatten() {
        // The scan of an index below one of its table does not name that.
        let is_bitmap = node["Node Type"] == "Bitmap Heap Scan";
        walk(below, own.filter(|_| is_bitmap), each);
    }
}

/// The scan of a node, if it reads all.
fn reads_all(node: &Value) -> Option<String> {
    let kind = node["Node Type"].as_str()?;
    let condition = node["Index Cond"].as_str();
    let index = node["Index Name"].as_str().unwrap_or_default();
    let is_whole = match kind {
        "Seq Scan" => true,
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => {
            // A trigram index serves equality by reading a share of all its pages.
            index.ends_with("_tgrm_idx")
                || condition.is_none_or(|condition| {
                    index.ends_with("_pkey")
                        && condition.contains("schema_name")
                        && !condition.contains("did")
                        && !condition.contains("host")
                })
        }
        _ => false,
    };
    is_whole.then(|| format!("{kind} {index} {}", condition.unwrap_or_default()))
}
