//! How far a database is, as its ledger says.

use crate::certificate;
use ::verify::verdict::{self, Compared, Judgment};
use ledger::coverage::Coverage;
use ledger::hosts;
use ledger::settings::{self, Setting};
use process::stop::PATIENT;
use process::{Database, Failure};
use serde_json::{Map, Value, json};

/// How far a database is.
pub struct Status {
    /// What is loaded and what is not.
    pub coverage: Coverage,
    /// The one word for it, by the last comparison.
    pub judgment: Judgment,
    /// Indexes and constraints that are dropped.
    pub dropped_indexes: usize,
    /// What is remembered of earlier commands.
    pub settings: Vec<Setting>,
    /// What was learned of each host, as JSON, if that is wanted.
    pub hosts: Vec<(String, String)>,
}

impl Status {
    /// Reads it, what was learned of hosts too if `with_hosts`.
    ///
    /// # Errors
    /// The database cannot be read, or skyfill has not worked on it.
    pub fn read(database: &Database, with_hosts: bool) -> Result<Self, Failure> {
        let mut client = database.connect()?;
        let refused = |error| database.failure(error);
        database.require_ledger(&mut client)?;
        database.require_trusted(&mut client)?;
        ledger::prepare(&mut client, PATIENT).map_err(|error| database.db_failure(&error))?;
        let schema = &database.schema;
        let coverage = certificate::coverage(database)?;
        let missing = load::indexes::missing(&mut client, schema).map_err(refused)?;
        Ok(Self {
            judgment: verdict::judge(&coverage, &Compared::before(&coverage)),
            coverage,
            dropped_indexes: missing.len(),
            settings: settings::all(&mut client, schema).map_err(refused)?,
            hosts: match with_hosts {
                true => hosts::learned(&mut client, schema).map_err(refused)?,
                false => Vec::new(),
            },
        })
    }

    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let Self {
            coverage, judgment, ..
        } = self;
        let run = coverage.run.as_ref().map(|run| {
            json!({
                "id": run.id, "now": run.now, "mode": run.mode.word(), "phase": run.phase.word(),
                "collections": run.collections, "notifications": run.notifications,
            })
        });
        let settings = self.settings.iter().map(|setting| {
            let values: Value = setting.values.clone().into();
            (setting.name.clone(), values)
        });
        let hosts = self.hosts.iter().map(|(host, learned)| {
            let learned = serde_json::from_str(learned).unwrap_or(Value::Null);
            (host.clone(), learned)
        });
        json!({
            "run": run,
            "verdict": judgment.verdict.word(),
            "missing": judgment.missing,
            "scope": judgment.scope,
            "provedAt": coverage.proof.as_ref().map(|proof| &proof.began),
            "repos": certificate::words(&coverage.repos),
            "proof": certificate::proof(&coverage.proofs),
            "droppedIndexes": self.dropped_indexes,
            "settings": settings.collect::<Map<_, _>>(),
            "hosts": hosts.collect::<Map<_, _>>(),
        })
    }
}
