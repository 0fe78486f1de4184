//! What an audit found, as figures, JSON and lines for people.

use crate::audit::interval::{self, Share};
use crate::fresh_repo::NoRepo;
use observe::printable;
use observe::units::{count, counted};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use verify::audit::{Compared, Rowcount};

/// Accounts that are named one by one, of each kind.
const NAMED: usize = 20;

/// Of each repo that was compared, by table: rows that should be there, and rows that are.
type ByTable = BTreeMap<&'static str, Vec<(u64, u64)>>;

/// What was drawn from what.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// The population, for people.
    pub population: String,
    /// How many accounts it has.
    pub size: u64,
    /// What the sample follows from.
    pub seed: u64,
    /// Accounts that were drawn.
    pub sampled: u64,
    /// Lines of the population that name no account.
    pub bad_lines: u64,
}

/// What was found of one account.
#[derive(Clone, Debug)]
pub struct OneAccount {
    /// The account.
    pub did: String,
    /// Its rows.
    pub rows: Rowcount,
}

/// What was found of one table.
#[derive(Clone, Debug)]
pub struct OneTable {
    /// Its name.
    pub table: &'static str,
    /// Its rows, over all repos that were compared.
    pub rows: Rowcount,
    /// The share of the rows that should be there and are.
    pub complete: Option<Share>,
}

/// What an audit found.
pub struct Audited {
    /// What was drawn from what.
    pub drawn: Drawn,
    /// Official tables that the database does not have.
    pub absent_tables: Vec<&'static str>,
    /// Accounts of which all rows are there, and no others.
    pub whole: u64,
    /// Accounts of which rows are missing or extra.
    pub partial: Vec<OneAccount>,
    /// Accounts of which no row is there.
    pub absent: Vec<OneAccount>,
    /// Accounts that were drawn and have no repo now, with the reason.
    pub gone: BTreeMap<String, u64>,
    /// Accounts whose repos could not be fetched or proved, with the reasons.
    pub unfetched: Vec<(String, String)>,
    /// Accounts of which the database has an older rev than the one that was fetched, and a newer
    /// one.
    pub older: u64,
    /// See `older`.
    pub newer: u64,
    rows: BTreeMap<&'static str, Rowcount>,
    /// Of each repo that was compared: rows that should be there, and rows that are.
    by_table: ByTable,
    repos: u64,
}

impl Audited {
    pub(super) fn new(drawn: Drawn, absent_tables: Vec<&'static str>) -> Self {
        Self {
            drawn,
            absent_tables,
            whole: 0,
            partial: Vec::new(),
            absent: Vec::new(),
            gone: BTreeMap::new(),
            unfetched: Vec::new(),
            older: 0,
            newer: 0,
            rows: BTreeMap::new(),
            by_table: BTreeMap::new(),
            repos: 0,
        }
    }

    pub(super) fn add(&mut self, did: &str, rev: &str, compared: Compared) {
        let sum = compared.sum();
        let one = OneAccount {
            did: did.to_owned(),
            rows: sum,
        };
        if sum.missing == 0 && sum.extra == 0 {
            self.whole += 1;
        } else if sum.expected > 0 && sum.missing == sum.expected && sum.extra == 0 {
            self.absent.push(one);
        } else {
            self.partial.push(one);
        }
        match compared.synced.as_deref().map(|synced| synced.cmp(rev)) {
            Some(std::cmp::Ordering::Less) => self.older += 1,
            Some(std::cmp::Ordering::Greater) => self.newer += 1,
            _ => {}
        }
        for (table, rows) in compared.tables {
            let total = self.rows.entry(table).or_default();
            total.expected += rows.expected;
            total.missing += rows.missing;
            total.extra += rows.extra;
            if rows.expected > 0 {
                let present = rows.expected - rows.missing.min(rows.expected);
                let repos = self.by_table.entry(table).or_default();
                repos.push((rows.expected, present));
            }
        }
        self.repos += 1;
    }

    pub(super) fn add_unfetched(&mut self, did: String, no_repo: &NoRepo) {
        match no_repo {
            NoRepo::Gone | NoRepo::Away(_) | NoRepo::OptedOut => {
                *self.gone.entry(no_repo.why()).or_default() += 1;
            }
            NoRepo::Failed(error) => self.unfetched.push((did, error.to_string())),
        }
    }

    /// Sorts what came in the order in which hosts answered.
    pub(super) fn sort(&mut self) {
        self.partial.sort_by(|a, b| a.did.cmp(&b.did));
        self.absent.sort_by(|a, b| a.did.cmp(&b.did));
        self.unfetched.sort();
    }

    /// Repos that were compared.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.repos
    }

    /// Accounts that could have been compared, if all had been drawn: those of the population but
    /// for the share that is gone.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    fn active(&self) -> u64 {
        let gone: u64 = self.gone.values().sum();
        let left = 1.0 - gone as f64 / self.drawn.sampled.max(1) as f64;
        ((self.drawn.size as f64 * left).round() as u64).max(self.repos)
    }

    /// The share of accounts that are whole.
    #[must_use]
    pub fn whole_share(&self) -> Option<Share> {
        let not = (self.partial.len() + self.absent.len()) as u64;
        let accounts = std::iter::repeat_n((1, 1), usize::try_from(self.whole).unwrap_or(0)).chain(
            std::iter::repeat_n((1, 0), usize::try_from(not).unwrap_or(0)),
        );
        interval::ratio(&accounts.collect::<Vec<_>>(), self.active())
    }

    /// The tables in which rows should be, or are.
    #[must_use]
    pub fn tables(&self) -> Vec<OneTable> {
        let rest = |repos: &[(u64, u64)]| {
            // Repos without rows in a table belong to the sample, too.
            let without = self.repos.saturating_sub(repos.len() as u64);
            let mut all = repos.to_vec();
            all.extend(std::iter::repeat_n(
                (0, 0),
                usize::try_from(without).unwrap_or(0),
            ));
            all
        };
        let of = |(table, rows): (&&'static str, &Rowcount)| OneTable {
            table,
            rows: *rows,
            complete: self
                .by_table
                .get(table)
                .and_then(|repos| interval::ratio(&rest(repos), self.active())),
        };
        self.rows.iter().map(of).collect()
    }

    /// Whether nothing is missing or extra, and everything that was drawn was compared.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.partial.is_empty()
            && self.absent.is_empty()
            && self.unfetched.is_empty()
            && self.drawn.bad_lines == 0
    }

    /// All of it as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let share = |share: Option<Share>| {
            share
                .map(|Share { share, low, high }| json!({"share": share, "low": low, "high": high}))
        };
        let accounts = |list: &[OneAccount]| -> Vec<Value> {
            list.iter()
                .map(|one| {
                    json!({"did": one.did, "expected": one.rows.expected, "missing": one.rows.missing, "extra": one.rows.extra})
                })
                .collect()
        };
        let tables: Vec<Value> = self
            .tables()
            .iter()
            .map(|one| {
                json!({
                    "table": one.table, "expected": one.rows.expected, "missing": one.rows.missing,
                    "extra": one.rows.extra, "complete": share(one.complete),
                })
            })
            .collect();
        let unfetched: Vec<Value> = self
            .unfetched
            .iter()
            .map(|(did, why)| json!({"did": did, "error": why}))
            .collect();
        json!({
            "population": {"of": self.drawn.population, "accounts": self.drawn.size, "badLines": self.drawn.bad_lines},
            "sampled": self.drawn.sampled,
            "seed": self.drawn.seed,
            "compared": self.repos,
            "gone": self.gone,
            "unfetched": unfetched,
            "accounts": {
                "whole": self.whole, "wholeShare": share(self.whole_share()),
                "partial": accounts(&self.partial), "absent": accounts(&self.absent),
            },
            "revs": {"olderInDatabase": self.older, "newerInDatabase": self.newer},
            "absentTables": self.absent_tables,
            "confidence": 0.95,
            "tables": tables,
        })
    }

    /// All of it as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let drawn = &self.drawn;
        let mut lines = vec![format!(
            "{} of {} drawn with seed {}, from {}; {} compared",
            count(drawn.sampled),
            counted(drawn.size, "account"),
            drawn.seed,
            drawn.population,
            count(self.repos)
        )];
        if drawn.bad_lines > 0 {
            lines.push(format!("lines that name no account: {}", drawn.bad_lines));
        }
        for (why, accounts) in &self.gone {
            let accounts = counted(*accounts, "account");
            lines.push(format!("not compared: {accounts}, because {why}"));
        }
        for (did, why) in self.unfetched.iter().take(NAMED) {
            lines.push(format!("not compared: {did}: {}", printable(why)));
        }
        more(&mut lines, self.unfetched.len());
        let whole = self
            .whole_share()
            .map_or_else(String::new, |share| format!(": {}", percent(share)));
        lines.push(format!(
            "accounts: {} whole, {} in part, {} absent; whole{whole}",
            self.whole,
            self.partial.len(),
            self.absent.len()
        ));
        for one in self.absent.iter().take(NAMED) {
            let rows = counted(one.rows.expected, "row");
            lines.push(format!("absent: {}, {rows}", one.did));
        }
        more(&mut lines, self.absent.len());
        for one in self.partial.iter().take(NAMED) {
            let Rowcount {
                expected,
                missing,
                extra,
            } = one.rows;
            lines.push(format!(
                "in part: {}, {missing} of {} missing, {extra} extra",
                one.did,
                counted(expected, "row")
            ));
        }
        more(&mut lines, self.partial.len());
        if self.older + self.newer > 0 {
            lines.push(format!(
                "the database has an older rev than the host of {}, and a newer one of {}",
                counted(self.older, "account"),
                self.newer
            ));
        }
        if !self.absent_tables.is_empty() {
            lines.push(format!(
                "not in this database: {}",
                self.absent_tables.join(", ")
            ));
        }
        for one in self.tables() {
            let Rowcount {
                expected,
                missing,
                extra,
            } = one.rows;
            let complete = one
                .complete
                .map_or_else(|| "no rows expected".to_owned(), percent);
            lines.push(format!(
                "{}\t{complete}\t{missing} of {} missing, {extra} extra",
                one.table,
                counted(expected, "row")
            ));
        }
        lines
    }
}

fn more(lines: &mut Vec<String>, all: usize) {
    if all > NAMED {
        lines.push(format!("... and {} more; --json has all", all - NAMED));
    }
}

fn percent(share: Share) -> String {
    let Share { share, low, high } = share;
    format!(
        "{:.2} % (95 % confidence: {:.2} to {:.2} %)",
        share * 100.0,
        low * 100.0,
        high * 100.0
    )
}
