//! Finds rows that another indexer wrote for a repo that skyfill loads for the first time.
//!
//! The official indexer follows events, so its rows depend on their order. Of two follows of one
//! account, the first to arrive has the row, and a deleted one leaves its notification to the one
//! that takes its place. This module finds the rows that do not follow from their record alone. All
//! others stay, with the times at which that indexer saw the records.

use crate::staging::{self, name_of};
use appview::table::{self, TableInfo};
use postgres::{Client, Error};

/// Adds to `touched` the records of these accounts whose stored rows, apart from times, differ from
/// the staged ones. Returns their number. Reads the rows of these accounts by the index of each
/// table.
pub(crate) fn find_touched(client: &mut Client, dids: &[String]) -> Result<u64, Error> {
    let mut touched = 0;
    // Duplicates were compared before.
    let elsewhere = [table::RECORD.info().id, table::DUPLICATE_RECORD.info().id];
    let compared = table::ALL
        .iter()
        .filter(|info| !elsewhere.contains(&info.id));
    for info in compared {
        touched += client.execute(&differing(info), &[&dids])?;
    }
    Ok(touched)
}

/// SQL: records whose rows in a table differ; the rows of both sides are counted against each
/// other.
fn differing(info: &TableInfo) -> String {
    let columns: Vec<&str> = info
        .columns
        .iter()
        .map(|column| column.name)
        .filter(|name| is_compared(info, name))
        .collect();
    let of = |row: &str, record: &str| -> String {
        let values = columns.iter().map(|name| match *name {
            // A row has the time of its record, which that indexer chose.
            "indexedAt" => format!("{record}.\"indexedAt\"::text"),
            name => format!("{row}.\"{name}\"::text"),
        });
        values.collect::<Vec<_>>().join(", ")
    };
    let (mut of_stored, mut of_staged) = (String::new(), String::new());
    if info.id == table::NOTIFICATION.info().id {
        of_stored = format!(" AND x.reason NOT IN ({})", staging::RELATIONAL_REASONS);
        of_staged = format!(" AND {}", staging::NOT_MUTED);
    }
    let fields: Vec<String> = (0..columns.len()).map(|at| format!("f{at}")).collect();
    format!(
        "INSERT INTO pg_temp.touched
         SELECT uri FROM (
           SELECT h.uri, {stored}, 1 AS side FROM pg_temp.had h CROSS JOIN {rows}
           WHERE h.did = ANY($1){of_stored}
           UNION ALL
           SELECT h.uri, {staged}, -1 FROM pg_temp.had h JOIN pg_temp.\"{staging}\" n ON n.\"{uri}\" = h.uri
           WHERE h.did = ANY($1){of_staged}
         ) sides (uri, {fields}, side) GROUP BY uri, {fields} HAVING sum(side) <> 0
         ON CONFLICT DO NOTHING",
        stored = of("x", "x"),
        rows = info.rows_of_record("h.uri"),
        staged = of("n", "h"),
        uri = info.uri,
        staging = name_of(info),
        fields = fields.join(", "),
    )
}

/// Whether a column follows from the record alone. A profile without `createdAt` has a time that
/// depends on who stored it.
fn is_compared(info: &TableInfo, column: &str) -> bool {
    let is_profile = info.id == table::PROFILE.info().id;
    column != "sortAt" && !(is_profile && column == "createdAt")
}
