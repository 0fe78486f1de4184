//! Decides where to cut a stage into slices.

use crate::stage::Slicing;
use postgres::{Error, GenericClient};

/// The bounds between slices of about `rows` rows each; none if one slice is enough.
pub(crate) fn bounds(
    client: &mut impl GenericClient,
    slicing: Slicing,
    rows: u64,
) -> Result<Vec<String>, Error> {
    match slicing {
        Slicing::Whole => Ok(Vec::new()),
        Slicing::Blocks(table) => blocks(client, table, rows),
        Slicing::Posts => Ok(numbers(client, "finalize_post", rows)?.0),
        Slicing::Numbers => {
            // How far a reply's flag spreads is unknown, so slices are smaller.
            let (mut bounds, last) = numbers(client, "finalize_bad", rows / 8)?;
            // The last slice ends where the numbers end now: rows that are added later are
            // processed when they are added.
            bounds.push((last + 1).to_string());
            Ok(bounds)
        }
        Slicing::Values(columns) => values(client, columns, rows),
    }
}

/// Whether the posts that are computed again are one slice.
pub(crate) fn are_posts_few(client: &mut impl GenericClient, rows: u64) -> Result<bool, Error> {
    Ok(numbers(client, "finalize_post", rows)?.0.is_empty())
}

/// Bounds between `step` numbers each of a work table, and its last number.
fn numbers(
    client: &mut impl GenericClient,
    table: &str,
    step: u64,
) -> Result<(Vec<String>, u64), Error> {
    let sql = format!("SELECT coalesce(max(number), 0) FROM skyfill.{table}");
    let last = u64::try_from(client.query_one(&sql, &[])?.get::<_, i64>(0)).unwrap_or(0);
    let bounds = (1..)
        .map(|n| n * step.max(1))
        .take_while(|bound| *bound <= last)
        .map(|bound| bound.to_string())
        .collect();
    Ok((bounds, last))
}

/// The number of slices, as far as it is known before the stage begins.
pub(crate) fn estimate(
    client: &mut impl GenericClient,
    slicing: Slicing,
    rows: u64,
) -> Result<u64, Error> {
    Ok(match slicing {
        Slicing::Whole | Slicing::Numbers | Slicing::Posts => 1,
        Slicing::Blocks(table) => 1 + blocks(client, table, rows)?.len() as u64,
        Slicing::Values(columns) => 1 + rows_of(client, columns)? / rows,
    })
}

/// Bounds, as tuple identifiers, between groups of blocks of `table` that hold about `rows` rows
/// each.
fn blocks(client: &mut impl GenericClient, table: &str, rows: u64) -> Result<Vec<String>, Error> {
    let row = client.query_one(
        "SELECT (pg_relation_size(c.oid) / current_setting('block_size')::bigint), c.reltuples::float8, c.relpages::float8
         FROM pg_class c WHERE c.oid = $1::text::regclass",
        &[&format!("\"{table}\"")],
    )?;
    let (blocks, tuples, pages): (i64, f64, f64) = (row.get(0), row.get(1), row.get(2));
    // A table that was never analyzed: assume rows of half a kilobyte.
    let per_block = if tuples > 0.0 && pages > 0.0 {
        tuples / pages
    } else {
        16.0
    };
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let step = ((rows as f64 / per_block) as u64).max(1);
    let blocks = u64::try_from(blocks).unwrap_or(0);
    Ok((1..)
        .map(|n| n * step)
        .take_while(|block| *block < blocks)
        .map(|block| format!("({block},0)"))
        .collect())
}

fn rows_of(client: &mut impl GenericClient, columns: &[(&str, &str)]) -> Result<u64, Error> {
    columns
        .iter()
        .try_fold(0, |sum, (table, _)| Ok(sum + self::rows(client, table)?))
}

/// About how many rows a table has. Of one that was never analyzed: rows of half a kilobyte.
pub(crate) fn rows(client: &mut impl GenericClient, table: &str) -> Result<u64, Error> {
    let sql =
        "SELECT CASE WHEN reltuples > 0 THEN reltuples ELSE pg_relation_size(oid) / 512 END::float8
         FROM pg_class WHERE oid = $1::text::regclass";
    let rows: f64 = client.query_one(sql, &[&format!("\"{table}\"")])?.get(0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(rows as u64)
}

/// Values that cut all `columns` together into parts of about `rows` rows, from a sample.
fn values(
    client: &mut impl GenericClient,
    columns: &[(&str, &str)],
    rows: u64,
) -> Result<Vec<String>, Error> {
    let total = rows_of(client, columns)?;
    let slices = total / rows + 1;
    if slices < 2 {
        return Ok(Vec::new());
    }
    // About two hundred values per slice are enough to place its end. Whole pages are sampled:
    // the rows of one page have many subjects.
    #[allow(clippy::cast_precision_loss)]
    let percent = (100.0 * 200.0 * slices as f64 / total as f64).clamp(0.000_1, 100.0);
    let samples: Vec<String> = columns
        .iter()
        .map(|(table, column)| {
            format!("SELECT \"{column}\" AS value FROM \"{table}\" TABLESAMPLE SYSTEM ({percent})")
        })
        .collect();
    let sql = format!(
        "SELECT min(value) FROM (SELECT value, ntile({slices}) OVER (ORDER BY value) AS slice FROM ({}) s WHERE value IS NOT NULL) t
         GROUP BY slice ORDER BY slice OFFSET 1",
        samples.join(" UNION ALL ")
    );
    let mut bounds: Vec<String> = client
        .query(&sql, &[])?
        .iter()
        .map(|row| row.get(0))
        .collect();
    bounds.dedup();
    Ok(bounds)
}
