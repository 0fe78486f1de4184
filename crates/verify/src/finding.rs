//! What can be found wrong.

use serde_json::{Value, json};

/// Something that is missing, extra or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The account.
    pub did: String,
    /// What it is.
    pub what: What,
}

/// Kinds of findings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The tree over what is stored has another root than the commit.
    Root {
        /// The commit's.
        signed: String,
        /// That of the stored records.
        stored: String,
        /// Rows of `record` that there were when the repo was loaded, and that there are.
        records: (u64, u64),
    },
    /// The commit in the ledger is not what its CID says, or of another account.
    Commit(String),
    /// The list of skipped records cannot be read.
    List,
    /// A record's JSON is not that of its CID.
    Json {
        /// The record.
        uri: String,
        /// Why.
        why: String,
    },
    /// A record's `indexedAt` follows neither from the record nor from a run.
    IndexedAt {
        /// The record.
        uri: String,
        /// What is stored.
        stored: String,
    },
    /// A row is missing.
    Missing {
        /// Its table.
        table: &'static str,
        /// Its record.
        uri: String,
        /// The row, by column.
        row: Value,
    },
    /// A row is there that does not follow from its record.
    Extra {
        /// Its table.
        table: &'static str,
        /// Its record.
        uri: String,
        /// The row, by column.
        row: Value,
    },
    /// Rows of a loaded account that belong to no record.
    Stray {
        /// Their table.
        table: &'static str,
        /// The record that the first of them names.
        uri: String,
        /// How many.
        rows: u64,
    },
    /// Rows of an account that skyfill never loaded: nothing is known that they could differ from.
    NeverLoaded {
        /// Their table.
        table: &'static str,
        /// The record that the first of them names.
        uri: String,
        /// How many.
        rows: u64,
    },
    /// `actor_sync` has another rev or commit.
    Sync {
        /// What the ledger has.
        loaded: String,
        /// What is stored.
        stored: Option<String>,
    },
    /// The signature is not that of the account's key.
    Signature(String),
}

impl Finding {
    /// Whether it says that tables differ from signed commits. Rows of accounts that skyfill never
    /// loaded say nothing about that.
    #[must_use]
    pub fn is_difference(&self) -> bool {
        !matches!(self.what, What::NeverLoaded { .. })
    }

    /// As a line of JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let did = &self.did;
        match &self.what {
            What::Root {
                signed,
                stored,
                records: (loaded, found),
            } => {
                json!({"did": did, "what": "root", "signed": signed, "stored": stored, "recordsLoaded": loaded, "recordsFound": found})
            }
            What::Commit(why) => json!({"did": did, "what": "commit", "why": why}),
            What::List => json!({"did": did, "what": "list of skipped records"}),
            What::Json { uri, why } => json!({"did": did, "what": "json", "uri": uri, "why": why}),
            What::IndexedAt { uri, stored } => {
                json!({"did": did, "what": "indexedAt", "uri": uri, "stored": stored})
            }
            What::Missing { table, uri, row } => {
                json!({"did": did, "what": "missing", "table": table, "uri": uri, "row": row})
            }
            What::Extra { table, uri, row } => {
                json!({"did": did, "what": "extra", "table": table, "uri": uri, "row": row})
            }
            What::Stray { table, uri, rows } => {
                json!({"did": did, "what": "stray", "table": table, "uri": uri, "rows": rows})
            }
            What::NeverLoaded { table, uri, rows } => {
                json!({"did": did, "what": "never loaded", "table": table, "uri": uri, "rows": rows})
            }
            What::Sync { loaded, stored } => {
                json!({"did": did, "what": "actor_sync", "loaded": loaded, "stored": stored})
            }
            What::Signature(why) => json!({"did": did, "what": "signature", "why": why}),
        }
    }

    /// Findings as text, for [`Finding::read_all`].
    pub(crate) fn write_all<'f>(findings: impl Iterator<Item = &'f Self>) -> String {
        Value::Array(findings.map(Self::json).collect()).to_string()
    }

    /// Reads findings of the kinds that can be about an account which was not compared.
    pub(crate) fn read_all(text: &str) -> Vec<Self> {
        let found: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
        found.iter().filter_map(Self::read).collect()
    }

    fn read(json: &Value) -> Option<Self> {
        let text = |name: &str| json.get(name)?.as_str().map(str::to_owned);
        let rows = || json.get("rows")?.as_u64();
        let table = || {
            let mut all = appview::table::ALL.iter();
            let name = text("table")?;
            all.find(|info| info.name == name).map(|info| info.name)
        };
        let what = match json.get("what")?.as_str()? {
            "stray" => What::Stray {
                table: table()?,
                uri: text("uri")?,
                rows: rows()?,
            },
            "never loaded" => What::NeverLoaded {
                table: table()?,
                uri: text("uri")?,
                rows: rows()?,
            },
            "json" => What::Json {
                uri: text("uri")?,
                why: text("why")?,
            },
            "commit" => What::Commit(text("why")?),
            "signature" => What::Signature(text("why")?),
            _ => return None,
        };
        Some(Self {
            did: text("did")?,
            what,
        })
    }
}
