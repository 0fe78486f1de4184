//! Which of several records with one unique key is the duplicate, where only some of them are at
//! hand: the others are read from the tables.

use super::making::{About, Made, Making};
use appview::table;
use pg::{DbError, DbErrorKind};
use postgres::{Client, Error};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Rivals that a batch reads, and the size of their JSON. An account may have half a million
/// records with one key; to read all of them for each event would hold up everybody. Its repo is
/// left to a merge instead.
const MOST_RIVALS: i64 = 10_000;
const MOST_JSON: i64 = 16 << 20;

/// The records that hold the keys of `made` or are duplicates of their holders, and those that are
/// duplicates of the records in `touched`, which are changed or go; without all of these.
///
/// # Errors
/// The server refused; or there are too many, which counts as values that the database refuses.
pub(super) fn read(
    client: &mut Client,
    making: &Making,
    made: &[Made],
    touched: &BTreeSet<String>,
) -> Result<Vec<Made>, DbError> {
    let mut holders = holders(client, made)?;
    let known: HashSet<&str> = made.iter().map(|made| made.uri.as_str()).collect();
    let of: Vec<&String> = holders.iter().chain(touched).collect();
    if of.is_empty() {
        return Ok(Vec::new());
    }
    let duplicates = client.query(
        "SELECT d.uri FROM unnest($1::text[]) n (of)
           CROSS JOIN LATERAL (SELECT uri FROM duplicate_record d WHERE d.\"duplicateOf\" = n.of OFFSET 0) d
         LIMIT $2",
        &[&of, &MOST_RIVALS],
    )?;
    if i64::try_from(duplicates.len()).is_ok_and(|count| count >= MOST_RIVALS) {
        return Err(too_many());
    }
    holders.extend(duplicates.iter().map(|row| row.get::<_, String>(0)));
    let uris: Vec<&String> = holders
        .iter()
        .filter(|uri| !known.contains(uri.as_str()) && !touched.contains(*uri))
        .collect();
    if uris.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = client.query_one(
        "SELECT coalesce(sum(octet_length(r.json)), 0)::bigint FROM unnest($1::text[]) n (uri)
           CROSS JOIN LATERAL (SELECT json FROM record r WHERE r.uri = n.uri OFFSET 0) r",
        &[&uris],
    )?;
    if bytes.try_get::<_, i64>(0)? > MOST_JSON {
        return Err(too_many());
    }
    let rows = client.query(
        "SELECT r.uri, r.cid, r.did, r.json, r.\"indexedAt\" FROM unnest($1::text[]) n (uri)
           CROSS JOIN LATERAL (SELECT * FROM record r WHERE r.uri = n.uri OFFSET 0) r",
        &[&uris],
    )?;
    let stored = |row: &postgres::Row| {
        let about = About {
            did: row.get(2),
            cid: row.get(1),
            indexed_at: row.get(4),
        };
        making.of_stored(&about, row.get(0), row.get(3))
    };
    Ok(rows.iter().filter_map(stored).collect())
}

fn too_many() -> DbError {
    DbError {
        kind: DbErrorKind::Data,
        ..DbError::other("too many records have one unique key")
    }
}

/// The records that hold the unique keys of `made`.
fn holders(client: &mut Client, made: &[Made]) -> Result<BTreeSet<String>, Error> {
    let mut by_table: BTreeMap<usize, Vec<&[String]>> = BTreeMap::new();
    for (id, key) in made.iter().filter_map(|made| made.unique.as_ref()) {
        by_table.entry(*id).or_default().push(key);
    }
    let mut holders = BTreeSet::new();
    for (id, keys) in by_table {
        let Some(info) = table::ALL.get(id) else {
            continue;
        };
        let column = |at: usize| -> Vec<&str> {
            let values = keys
                .iter()
                .map(|key| key.get(at).map_or("", String::as_str));
            values.collect()
        };
        // Keys have one column or two.
        let second = match info.unique.get(1) {
            Some(name) => format!("x.\"{name}\" = n.b"),
            None => "n.b = ''".to_owned(),
        };
        let first = info.unique.first().copied().unwrap_or_default();
        let rows = client.query(
            &format!(
                "SELECT x.uri FROM unnest($1::text[], $2::text[]) n (a, b)
                   CROSS JOIN LATERAL (SELECT x.uri FROM \"{}\" x WHERE x.\"{first}\" = n.a AND {second} OFFSET 0) x",
                info.name
            ),
            &[&column(0), &column(1)],
        )?;
        holders.extend(rows.iter().map(|row| row.get::<_, String>(0)));
    }
    Ok(holders)
}

/// For each record, in the order of `all`, the URI of the one that it is a duplicate of: the first
/// by its key has the unique key.
pub(super) fn winners(all: &[&Made]) -> Vec<Option<String>> {
    let mut first: BTreeMap<(&str, usize, &[String]), &Made> = BTreeMap::new();
    for made in all {
        let Some((id, values)) = &made.unique else {
            continue;
        };
        let entry = first
            .entry((made.did.as_str(), *id, values.as_slice()))
            .or_insert(*made);
        if made.rkey < entry.rkey {
            *entry = made;
        }
    }
    all.iter()
        .map(|made| {
            let (id, values) = made.unique.as_ref()?;
            let winner = first.get(&(made.did.as_str(), *id, values.as_slice()))?;
            (winner.uri != made.uri).then(|| winner.uri.clone())
        })
        .collect()
}
