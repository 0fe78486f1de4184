//! Finds rows that belong to no record, and rows of accounts that skyfill never loaded.
//!
//! Each table is read as a whole once or twice and joined with `record`; there is no lookup per
//! row. Findings are grouped by account before they leave the server.

use crate::finding::{Finding, What};
use appview::table::{self, TableInfo};
use ledger::repos::is_stored;
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::ToSql;
use postgres::{Client, Error};
use rows::Collection;

/// Looks for such rows.
pub(crate) fn find(
    client: &mut Client,
    schema: &str,
    report: &mut dyn FnMut(Finding),
) -> Result<(), Error> {
    let of_records = table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id);
    for info in of_records {
        strays_of(client, schema, info, report)?;
    }
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

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

/// Rows without a record, or with a record whose collection leaves no row in this table.
fn strays_of(
    client: &mut Client,
    schema: &str,
    info: &TableInfo,
    report: &mut dyn FnMut(Finding),
) -> Result<(), Error> {
    let uri = format!("x.\"{}\"", info.uri);
    // The account that the row names, if its URI names no loaded one.
    let owner = load::indexed_owner(info)
        .map_or_else(|| "NULL::text".to_owned(), |owner| format!("x.\"{owner}\""));
    let select = format!(
        "SELECT {uri} AS uri, {owner} AS owner FROM \"{}\" x",
        info.name
    );
    let without_record = format!("NOT EXISTS (SELECT FROM record r WHERE r.uri = {uri})");
    let mut queries = Vec::new();
    if info.id == table::NOTIFICATION.info().id {
        // The official code notifies of a deleted verification after its record is gone.
        queries.push(format!(
            "{select} WHERE {without_record} AND x.reason <> 'unverified'"
        ));
    } else {
        queries.push(format!("{select} WHERE {without_record}"));
    }
    let collections: Vec<String> = collections_of(info)
        .iter()
        .map(|collection| format!("'{}'", collection.nsid()))
        .collect();
    if !collections.is_empty() {
        queries.push(format!(
            "{select} WHERE split_part({uri}, '/', 4) NOT IN ({})",
            collections.join(", ")
        ));
    }
    if info.id == table::OP_THREAD_REPLY.info().id {
        queries.push(format!(
            "{select} LEFT JOIN post p ON p.uri = x.uri WHERE p.\"replyRoot\" IS DISTINCT FROM x.\"rootUri\""
        ));
    }
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

/// The collections whose records may have rows in a table; none means any.
fn collections_of(info: &TableInfo) -> Vec<Collection> {
    let shared = [
        table::NOTIFICATION.info().id,
        table::DUPLICATE_RECORD.info().id,
    ];
    if shared.contains(&info.id) {
        return Vec::new();
    }
    if info.id == table::FEED_ITEM.info().id {
        return vec![Collection::Post, Collection::Repost];
    }
    let own = Collection::ALL
        .iter()
        .find(|collection| load::own_table(**collection).is_some_and(|own| own.id == info.id));
    // The remaining tables are those of embeds, quotes and the author's own replies.
    vec![own.copied().unwrap_or(Collection::Post)]
}
