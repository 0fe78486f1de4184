//! Finds rows that belong to no record, and rows of accounts that skyfill never loaded, in a
//! database whose text does not sort by bytes (elsewhere they come by when repos are compared).
//!
//! Of everything, each table is read as a whole once or twice and joined with `record`; there is
//! no lookup per row, and tables are searched at once, each on a connection. Of one repo, rows that
//! name it as their owner are looked up, as far as an index leads to them. Findings are grouped by
//! account before they leave the server.

use crate::finding::{Finding, What};
use crate::ordered_rows::collections_of;
use appview::table::{self, Lead, TableInfo};
use ledger::repos::is_stored;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, Error, GenericClient};

/// A search over everything, for one connection.
#[derive(Clone, Copy)]
pub(crate) enum Search {
    /// For rows of this table that belong to no record.
    Strays(TableInfo),
    /// For records of accounts that were never loaded.
    NeverLoaded,
}

impl Search {
    /// All of them, which can run at once. The largest tables come first.
    pub(crate) fn all(client: &mut Client, schema: &str) -> Result<Vec<Self>, Error> {
        let sizes = client.query(
            "SELECT c.relname::text, pg_relation_size(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = $1 AND c.relkind = 'r'",
            &[&schema],
        )?;
        let size = |info: &TableInfo| {
            let of_table = sizes.iter().find(|row| row.get::<_, &str>(0) == info.name);
            of_table.map_or(0, |row| row.get::<_, i64>(1))
        };
        let of_records = table::ALL
            .iter()
            .filter(|info| info.id != table::RECORD.info().id);
        let mut tables: Vec<TableInfo> = of_records.copied().collect();
        tables.sort_by_key(|info| std::cmp::Reverse(size(info)));
        let strays = tables.into_iter().map(Self::Strays);
        Ok(std::iter::once(Self::NeverLoaded).chain(strays).collect())
    }

    /// Where its findings come among those of others.
    pub(crate) fn place(self) -> usize {
        match self {
            Self::Strays(info) => info.id,
            Self::NeverLoaded => usize::MAX,
        }
    }

    /// Runs it.
    pub(crate) fn run(
        self,
        client: &mut Client,
        schema: &str,
        report: &mut dyn FnMut(Finding),
    ) -> Result<(), Error> {
        match self {
            Self::Strays(info) => {
                let whole = format!("\"{}\" x", info.name);
                let without_record = format!(
                    "NOT EXISTS (SELECT FROM record r WHERE r.uri = x.\"{}\")",
                    info.uri
                );
                let rows = (whole.as_str(), without_record.as_str(), true);
                strays_of(client, schema, &info, rows, report)
            }
            Self::NeverLoaded => never_loaded(client, schema, report),
        }
    }
}

fn never_loaded(
    client: &mut Client,
    schema: &str,
    report: &mut dyn FnMut(Finding),
) -> Result<(), Error> {
    let sql = format!(
        "SELECT r.did, count(*), min(r.uri COLLATE \"C\") FROM record r WHERE NOT {} GROUP BY r.did",
        is_stored("r.did")
    );
    let mut accounts = client.query_raw(&sql, [&schema as &(dyn ToSql + Sync)])?;
    while let Some(row) = accounts.next()? {
        report(Finding {
            did: row.get(0),
            what: What::NeverLoaded {
                table: table::RECORD.info().name,
                uri: row.get(2),
                rows: count(row.get(1)),
            },
        });
    }
    Ok(())
}

/// Looks for rows of one account that belong to no record.
pub(crate) fn find_of(
    client: &mut impl GenericClient,
    schema: &str,
    did: &str,
    report: &mut dyn FnMut(Finding),
) -> Result<(), Error> {
    let of_records = table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id);
    for info in of_records {
        let Some(rows) = rows_of(info, did) else {
            continue;
        };
        let without_record = format!(
            "(SELECT r.uri FROM record r WHERE r.uri = x.\"{}\" OFFSET 0) IS NULL",
            info.uri
        );
        strays_of(
            client,
            schema,
            info,
            (&rows, &without_record, false),
            report,
        )?;
    }
    Ok(())
}

/// SQL: the rows of an account in a table, if an index leads to them.
fn rows_of(info: &TableInfo, did: &str) -> Option<String> {
    let owner = load::indexed_owner(info)?;
    let did = did.replace('\'', "''");
    Some(format!(
        "(SELECT y.* FROM \"{}\" y WHERE y.\"{owner}\" = '{did}' OFFSET 0) x",
        info.name
    ))
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

/// Those of these rows, called `x`, without a record, or with a record whose collection leaves no
/// row in this table.
fn strays_of(
    client: &mut impl GenericClient,
    schema: &str,
    info: &TableInfo,
    (rows, without_record, is_whole): (&str, &str, bool),
    report: &mut dyn FnMut(Finding),
) -> Result<(), Error> {
    let uri = format!("x.\"{}\"", info.uri);
    // The account that the row names, if its URI names no loaded one.
    let owner = load::indexed_owner(info)
        .map_or_else(|| "NULL::text".to_owned(), |owner| format!("x.\"{owner}\""));
    let select = format!("SELECT {uri} AS uri, {owner} AS owner FROM {rows}");
    let mut conditions = Vec::new();
    if info.id == table::NOTIFICATION.info().id {
        // The official code notifies of a deleted verification after its record is gone.
        conditions.push(format!("x.reason <> 'unverified' AND {without_record}"));
    } else {
        conditions.push(without_record.to_owned());
    }
    let collections: Vec<String> = collections_of(info)
        .iter()
        .map(|collection| format!("'{}'", collection.nsid()))
        .collect();
    if !collections.is_empty() {
        conditions.push(format!(
            "split_part({uri}, '/', 4) NOT IN ({})",
            collections.join(", ")
        ));
    }
    if let Some(Lead { column, of_post }) = info.lead {
        conditions.push(format!(
            "(SELECT p.\"{of_post}\" FROM post p WHERE p.uri = {uri}) IS DISTINCT FROM x.\"{column}\""
        ));
    }
    // Of everything, each condition is a plan of its own; of one repo, its rows are read once.
    let queries: Vec<String> = match is_whole {
        true => conditions
            .iter()
            .map(|condition| format!("{select} WHERE {condition}"))
            .collect(),
        false => vec![format!("{select} WHERE {}", conditions.join(" OR "))],
    };
    // Without ALL: a row that two of them find counts once.
    let sql = format!(
        "WITH stray AS ({}), named AS (
           SELECT uri, split_part(uri, '/', 3) AS did, owner FROM stray
         ), owned AS (
           SELECT n.uri, CASE WHEN {} OR n.owner IS NULL THEN n.did ELSE n.owner END AS did FROM named n
         )
         SELECT o.did, count(*), min(o.uri COLLATE \"C\"), {} FROM owned o GROUP BY o.did",
        queries.join(" UNION "),
        is_stored("n.did"),
        is_stored("o.did")
    );
    let mut accounts = client.query_raw(&sql, [&schema as &(dyn ToSql + Sync)])?;
    while let Some(row) = accounts.next()? {
        let (uri, rows, is_loaded) = (row.get(2), count(row.get(1)), row.get(3));
        let table = info.name;
        report(Finding {
            did: row.get(0),
            what: if is_loaded {
                What::Stray { table, uri, rows }
            } else {
                What::NeverLoaded { table, uri, rows }
            },
        });
    }
    Ok(())
}
