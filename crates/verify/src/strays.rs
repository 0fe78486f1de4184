//! Finds rows that belong to no record, and rows of accounts that skyfill never loaded.
//!
//! Of everything, each table is read as a whole once or twice and joined with `record`; there is no
//! lookup per row. Of one repo, its rows are looked up, as far as an index leads to them: in a
//! database whose text sorts by bytes, those are all rows under its URIs; else those that name it
//! as their owner. Findings are grouped by account before they leave the server.

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
        let whole = format!("\"{}\" x", info.name);
        let without_record = format!(
            "NOT EXISTS (SELECT FROM record r WHERE r.uri = x.\"{}\")",
            info.uri
        );
        strays_of(
            client,
            schema,
            info,
            (&whole, &without_record, true),
            report,
        )?;
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

/// Looks for rows of one account that belong to no record.
pub(crate) fn find_of(
    client: &mut Client,
    schema: &str,
    did: &str,
    report: &mut dyn FnMut(Finding),
) -> Result<(), Error> {
    let by_range = load::sorts_by_bytes(client)?;
    let of_records = table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id);
    for info in of_records {
        let Some(rows) = rows_of(info, did, by_range) else {
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

/// SQL: the rows of an account in a table, as far as an index leads to them.
fn rows_of(info: &TableInfo, did: &str, by_range: bool) -> Option<String> {
    let did = did.replace('\'', "''");
    let range = |column: &str| {
        format!("y.\"{column}\" >= 'at://{did}/' AND y.\"{column}\" < 'at://{did}0'")
    };
    let within = match info.id == table::OP_THREAD_REPLY.info().id {
        // Its key begins with the root, which is the account's as well.
        true => format!("{} AND {}", range("rootUri"), range(info.uri)),
        false => range(info.uri),
    };
    let condition = match by_range {
        true => within,
        false => format!("y.\"{}\" = '{did}'", load::indexed_owner(info)?),
    };
    Some(format!(
        "(SELECT y.* FROM \"{}\" y WHERE {condition} OFFSET 0) x",
        info.name
    ))
}

fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}

/// Those of these rows, called `x`, without a record, or with a record whose collection leaves no
/// row in this table.
fn strays_of(
    client: &mut Client,
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
    if info.id == table::OP_THREAD_REPLY.info().id {
        conditions.push(
            "(SELECT p.\"replyRoot\" FROM post p WHERE p.uri = x.uri) IS DISTINCT FROM x.\"rootUri\""
                .to_owned(),
        );
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
