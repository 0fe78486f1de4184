//! The fate of one record: what became of it, and why.

use crate::explain::account::About;
use crate::explain::place::Place;
use ledger::about::{self, ListError, Repo};
use ledger::runs::Phase;
use ledger::skipped::{Reason, Skipped};
use ledger::states::State;
use load::Notifications;
use observe::printable;
use postgres::Client;
use process::{Database, Failure};
use serde_json::{Value, json};
use verify::record::{self, Flag, Recipient, Stored};

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its rows are stored.
    Stored,
    /// Another record of the account has its unique key, and the row.
    Duplicate(String),
    /// The repo has it, and an AppView does not, for this reason.
    Skipped(Reason, String),
    /// It is not in the stored rev of the repo.
    NotInRepo,
    /// The repo is not loaded.
    NotLoaded(State),
    /// The ledger does not know the account.
    UnknownAccount,
    /// It is in `record`, and skyfill did not store it.
    Foreign,
}

/// A record with its rows, and the reasons for them.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Its AT-URI.
    pub uri: String,
    /// What became of it.
    pub fate: Fate,
    /// Its rows.
    pub stored: Stored,
    /// Flags of a post that are set.
    pub flags: Vec<Flag>,
    /// Who is notified of it or not.
    pub recipients: Vec<Recipient>,
    /// Whether derived rows are still to be computed.
    pub awaits_finalize: bool,
    /// The stored rev of its repo.
    rev: Option<String>,
    /// Why the repo is not loaded.
    repo_error: Option<String>,
}

impl Fate {
    /// One word or two.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Duplicate(_) => "duplicate",
            Self::Skipped(..) => "skipped",
            Self::NotInRepo => "not in the repo",
            Self::NotLoaded(_) => "not loaded",
            Self::UnknownAccount => "unknown account",
            Self::Foreign => "stored by another program",
        }
    }
}

/// Why a record is skipped.
fn why_skipped(reason: Reason, detail: &str) -> String {
    match (reason, detail) {
        (Reason::NotChosen, "") => {
            "its collection was left out by choice (--collections)".to_owned()
        }
        (Reason::NotChosen, before) => {
            format!("it was left out by choice (--since): it is {before}")
        }
        (Reason::Unindexed, _) => "its collection leaves no row in an AppView".to_owned(),
        (Reason::BadKey, _) => "its key is no COLLECTION/RKEY".to_owned(),
        (Reason::Unreadable, why) => format!("it is not canonical DAG-CBOR: {why}"),
        (Reason::Refused, why) => format!("the official indexer refuses it, too: {why}"),
        (Reason::RefusedByDatabase, why) => format!("PostgreSQL refuses its rows: {why}"),
        (Reason::OverLimit, why) => format!("it exceeds a limit: {why}"),
        (Reason::Irreversible, _) => {
            "its JSON cannot be turned back to the same bytes; its rows should be stored".to_owned()
        }
    }
}

impl Explained {
    pub(crate) fn read(
        client: &mut Client,
        database: &Database,
        place: &Place,
        about: &About,
    ) -> Result<Self, Failure> {
        let refused = |error: postgres::Error| database.failure(error);
        let (uri, key) = (
            place.uri().unwrap_or_default(),
            place.key().unwrap_or_default(),
        );
        let stored = record::stored(client, &uri).map_err(refused)?;
        let skipped = match (&stored.record, &about.repo) {
            (None, Some(repo)) if repo.rev.is_some() => {
                about::skipped(client, &database.schema, &place.did, key.as_bytes())
                    .map_err(|error| broken(database, &place.did, error))?
            }
            _ => None,
        };
        let fate = fate(about.repo.as_ref(), &stored, skipped);
        let run = about.repo.as_ref().and_then(|repo| repo.run.as_ref());
        let awaits_finalize = run.is_some_and(|run| run.phase <= Phase::Finalize);
        let choice = record::Choice {
            notifications: run
                .and_then(|run| Notifications::parse(&run.notifications))
                .unwrap_or_default(),
            is_finalized: !awaits_finalize,
        };
        let recipients = record::recipients(client, &uri, &stored, &choice).map_err(refused)?;
        Ok(Self {
            flags: record::flags(client, &uri).map_err(refused)?,
            recipients,
            fate,
            stored,
            awaits_finalize,
            rev: about.repo.as_ref().and_then(|repo| repo.rev.clone()),
            repo_error: about.repo.as_ref().and_then(|repo| {
                let (code, error) = repo.error.as_ref()?;
                Some(format!("{code}: {error}"))
            }),
            uri,
        })
    }

    /// CID of the stored record.
    pub(crate) fn cid(&self) -> Option<&str> {
        self.stored
            .record
            .as_ref()
            .map(|record| record.cid.as_str())
    }

    /// Why it became what it became.
    #[must_use]
    pub fn why(&self) -> String {
        let rev = self.rev.as_deref().unwrap_or_default();
        match &self.fate {
            Fate::Stored => format!("it is in rev {rev} of the repo, and all its rows are here"),
            Fate::Duplicate(winner) => {
                format!("{winner} comes first and has the same unique key, so that one has the row")
            }
            Fate::Skipped(reason, detail) => why_skipped(*reason, detail),
            Fate::NotInRepo => format!(
                "rev {rev} of the repo is loaded as a whole, and has no such record: it was deleted before, or made later"
            ),
            Fate::NotLoaded(state) => {
                let error = self
                    .repo_error
                    .as_deref()
                    .map_or_else(String::new, |error| format!(": {error}"));
                format!("the repo is {}{error}", state.term())
            }
            Fate::UnknownAccount => {
                "the ledger does not know the account: no list had it, and nobody named it"
                    .to_owned()
            }
            Fate::Foreign => {
                "it is in the table record, and the ledger does not know that skyfill stored it"
                    .to_owned()
            }
        }
    }

    pub(crate) fn json(&self) -> Value {
        let record = self.stored.record.as_ref().map(|record| {
            json!({"cid": record.cid, "indexedAt": record.indexed_at, "json": record.json})
        });
        let rows = self.stored.rows.iter();
        let rows: Vec<Value> = rows
            .map(|(table, row)| json!({"table": table, "row": row}))
            .collect();
        let flags = self
            .flags
            .iter()
            .map(|flag| json!({"flag": flag.name, "why": flag.why, "decidedBy": flag.decided_by}));
        let recipients = self.recipients.iter().map(|recipient| {
            json!({
                "did": recipient.did, "reason": recipient.reason, "notified": recipient.not.is_none(),
                "why": recipient.not,
            })
        });
        let reason = match &self.fate {
            Fate::Skipped(reason, _) => Some(reason.word()),
            _ => None,
        };
        json!({
            "uri": self.uri, "fate": self.fate.word(), "reason": reason, "why": self.why(),
            "stored": record, "rows": rows, "flags": flags.collect::<Vec<_>>(),
            "notifications": recipients.collect::<Vec<_>>(), "awaitsFinalize": self.awaits_finalize,
        })
    }

    pub(crate) fn write(&self, lines: &mut Vec<String>) {
        let mut line = |name: &str, text: &str| lines.push(format!("{name}: {}", printable(text)));
        line("record", &self.uri);
        line("fate", &format!("{}: {}", self.fate.word(), self.why()));
        if let Some(record) = &self.stored.record {
            line("cid", &record.cid);
            line("row in record", &format!("indexedAt {}", record.indexed_at));
        }
        for (table, row) in &self.stored.rows {
            line(&format!("row in {table}"), &row.to_string());
        }
        for flag in &self.flags {
            let by = flag
                .decided_by
                .as_deref()
                .map_or_else(String::new, |by| format!(" ({by})"));
            line("flag", &format!("{}: {}{by}", flag.name, flag.why));
        }
        for Recipient { did, reason, not } in &self.recipients {
            match not {
                None => line("notified", &format!("{did}, {reason}")),
                Some(why) => line("not notified", &format!("{did}, {reason}: {why}")),
            }
        }
        if self.awaits_finalize && self.stored.record.is_some() {
            line(
                "note",
                "flags, counts and notifications of replies and quotes are computed by finalize, which is still to come",
            );
        }
    }
}

fn fate(repo: Option<&Repo>, stored: &Stored, skipped: Option<Skipped>) -> Fate {
    let is_loaded = repo.is_some_and(|repo| repo.rev.is_some());
    match (repo, &stored.record) {
        (_, Some(_)) if !is_loaded => Fate::Foreign,
        (_, Some(_)) => stored
            .duplicate_of()
            .map_or(Fate::Stored, |winner| Fate::Duplicate(winner.to_owned())),
        (None, None) => Fate::UnknownAccount,
        (Some(repo), None) if !is_loaded => Fate::NotLoaded(repo.state),
        (Some(_), None) => skipped.map_or(Fate::NotInRepo, |entry| {
            Fate::Skipped(entry.reason, entry.detail)
        }),
    }
}

fn broken(database: &Database, did: &str, error: ListError) -> Failure {
    match error {
        ListError::Database(error) => database.failure(error),
        ListError::Broken => Failure::new(format!(
            "the list of skipped records of {did} in {} is corrupt",
            database.shown()
        ))
        .hint("skyfill verify --repair marks the repo, and skyfill run loads it again"),
    }
}
