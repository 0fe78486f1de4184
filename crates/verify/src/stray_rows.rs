//! Rows that came by without a record, grouped by table and account.

use crate::finding::{Finding, What};
use appview::table::{self, TableInfo};
use postgres::{Error, GenericClient, Row};
use std::collections::{BTreeMap, HashSet};

/// How many rows, and the first record that they name.
type Count = (u64, String);

/// What was found in a slice and belongs to no record of its repos.
#[derive(Default)]
pub(crate) struct Strays {
    /// By table, account of the URI, and account that the row names.
    rows: BTreeMap<(usize, String, Option<String>), Count>,
    /// Records of accounts that were never loaded.
    never_loaded: BTreeMap<String, Count>,
    /// Records that name another account than their URI: that account and the URI.
    records: Vec<(String, String)>,
}

fn add(count: &mut Count, uri: &str) {
    count.0 += 1;
    if count.1.is_empty() || uri < count.1.as_str() {
        uri.clone_into(&mut count.1);
    }
}

impl Strays {
    /// Adds a row of another table than `record`.
    pub(crate) fn row(&mut self, info: &TableInfo, row: &Row) {
        let column = |name: &str| {
            let at = info.columns.iter().position(|column| column.name == name)?;
            row.get::<_, Option<&str>>(at + 1)
        };
        let is_notification = info.id == table::NOTIFICATION.info().id;
        // The official code notifies of a deleted verification after its record is gone.
        if is_notification && column("reason") == Some("unverified") {
            return;
        }
        let uri: &str = row.get(0);
        let did = account_of(uri).to_owned();
        let owner = load::indexed_owner(info).and_then(column);
        let key = (info.id, did, owner.map(str::to_owned));
        add(self.rows.entry(key).or_default(), uri);
    }

    /// Adds a record of an account that was never loaded.
    pub(crate) fn never_loaded(&mut self, did: &str, uri: &str) {
        match self.never_loaded.get_mut(did) {
            Some(count) => add(count, uri),
            None => {
                self.never_loaded
                    .insert(did.to_owned(), (1, uri.to_owned()));
            }
        }
    }

    /// Adds a record that names `did` and is not of one of the slice's repos of that name.
    pub(crate) fn record(&mut self, did: &str, uri: &str) {
        match account_of(uri) == did {
            true => self.never_loaded(did, uri),
            false => self.records.push((did.to_owned(), uri.to_owned())),
        }
    }

    /// What that means. `stored` are accounts of which a rev is stored, as far as is known.
    pub(crate) fn findings(
        &mut self,
        client: &mut impl GenericClient,
        schema: &str,
        stored: &[&str],
    ) -> Result<Vec<Finding>, Error> {
        let of_rows = self.rows.keys();
        let named = of_rows.flat_map(|(_, did, owner)| std::iter::once(did).chain(owner));
        let named = named.chain(self.records.iter().map(|(did, _)| did));
        let mut stored: HashSet<String> = stored.iter().map(|did| (*did).to_owned()).collect();
        let unknown: HashSet<&str> = named
            .map(String::as_str)
            .filter(|did| !stored.contains(*did))
            .collect();
        if !unknown.is_empty() {
            let unknown: Vec<&str> = unknown.into_iter().collect();
            stored.extend(ledger::repos::stored_of(client, schema, &unknown)?);
        }
        let mut findings = Vec::new();
        for (did, uri) in std::mem::take(&mut self.records) {
            match stored.contains(&did) {
                true => findings.push(Finding {
                    did,
                    what: What::Json {
                        uri,
                        why: "its URI belongs to another account".to_owned(),
                    },
                }),
                false => self.never_loaded(&did, &uri),
            }
        }
        // The account that the row names, if its URI names no loaded one.
        let mut by_account: BTreeMap<(usize, String), Count> = BTreeMap::new();
        for ((id, did, owner), (rows, uri)) in std::mem::take(&mut self.rows) {
            let did = match owner {
                Some(owner) if !stored.contains(&did) => owner,
                _ => did,
            };
            let count = by_account.entry((id, did)).or_default();
            add(count, &uri);
            count.0 += rows - 1;
        }
        for ((id, did), (rows, uri)) in by_account {
            let table = table::ALL.get(id).map_or("", |info| info.name);
            let what = match stored.contains(&did) {
                true => What::Stray { table, uri, rows },
                false => What::NeverLoaded { table, uri, rows },
            };
            findings.push(Finding { did, what });
        }
        for (did, (rows, uri)) in std::mem::take(&mut self.never_loaded) {
            let table = table::RECORD.info().name;
            let what = What::NeverLoaded { table, uri, rows };
            findings.push(Finding { did, what });
        }
        Ok(findings)
    }
}

/// The account of a URI.
fn account_of(uri: &str) -> &str {
    uri.split('/').nth(2).unwrap_or_default()
}
