//! Finds all rows of accounts by their owner, whether or not the account has a record for them.
//!
//! Repairs and removals need this. A row belongs to an account if its URI begins with the
//! account's, or if it names the account as its creator, author or originator. An index finds each:
//! primary keys begin with the URI, so in a database whose text sorts by bytes (collation C) an
//! account's rows are one range of each index. In other collations, URIs can only be found by
//! reading the table; only repairs do that.

use crate::staging::name_of;
use appview::table::{self, TableInfo};
use ledger::changes::{Noting, Way};
use postgres::{Client, Error};
use std::fmt::Write;

/// Accounts per statement.
const AT_ONCE: usize = 50;

/// Deletes rows of accounts.
pub(crate) struct Owned<'o> {
    /// The condition that the record with the URI in a column belongs to a collection that is
    /// processed; begins with AND, or is empty.
    pub(crate) collections: &'o dyn Fn(&str) -> String,
    /// Notes what is deleted.
    pub(crate) noting: &'o Noting,
}

impl Owned<'_> {
    /// Deletes all rows of these accounts, except those of `record`.
    pub(crate) fn delete_all(&self, client: &mut Client, dids: &[String]) -> Result<(), Error> {
        if dids.is_empty() {
            return Ok(());
        }
        let by_range = sorts_by_bytes(client)?;
        for dids in dids.chunks(AT_ONCE) {
            for info in of_records() {
                if by_range {
                    self.delete_ranges(client, info, dids)?;
                } else {
                    let uri = format!("x.\"{}\"", info.uri);
                    let condition = format!("split_part({uri}, '/', 3) = ANY($1)");
                    client.execute(&self.delete(info, &condition), &[&dids])?;
                }
                self.delete_by_owner(client, info, dids)?;
            }
        }
        Ok(())
    }

    /// Deletes the rows of these accounts whose records are not in `had`, as far as an index finds
    /// them.
    pub(crate) fn delete_unstaged(
        &self,
        client: &mut Client,
        dids: &[String],
    ) -> Result<(), Error> {
        if dids.is_empty() {
            return Ok(());
        }
        let by_range = sorts_by_bytes(client)?;
        for dids in dids.chunks(AT_ONCE) {
            for info in of_records() {
                if by_range {
                    self.delete_ranges(client, info, dids)?;
                }
                self.delete_by_owner(client, info, dids)?;
            }
        }
        Ok(())
    }

    fn delete_ranges(
        &self,
        client: &mut Client,
        info: &TableInfo,
        dids: &[String],
    ) -> Result<(), Error> {
        // The range of texts that begin with at://DID/: 0 is the character after the slash.
        let bounds: Vec<String> = dids
            .iter()
            .flat_map(|did| [format!("at://{did}/"), format!("at://{did}0")])
            .collect();
        let ranges: Vec<String> = (0..dids.len())
            .map(|at| {
                let (low, high) = (2 * at + 1, 2 * at + 2);
                info.is_of_account(&format!("${low}"), &format!("${high}"))
            })
            .collect();
        let parameters: Vec<&(dyn postgres::types::ToSql + Sync)> = bounds
            .iter()
            .map(|bound| bound as &(dyn postgres::types::ToSql + Sync))
            .collect();
        let condition = format!("({})", ranges.join(" OR "));
        client.execute(&self.delete(info, &condition), &parameters)?;
        Ok(())
    }

    fn delete_by_owner(
        &self,
        client: &mut Client,
        info: &TableInfo,
        dids: &[String],
    ) -> Result<(), Error> {
        let Some(owner) = indexed_owner(info) else {
            return Ok(());
        };
        let condition = format!("x.\"{owner}\" = ANY($1)");
        client.execute(&self.delete(info, &condition), &[&dids])?;
        Ok(())
    }

    /// The statement that deletes such rows unless their record is in `had`.
    fn delete(&self, info: &TableInfo, condition: &str) -> String {
        let uri = format!("x.\"{}\"", info.uri);
        let mut sql = format!(
            "DELETE FROM \"{}\" x WHERE {condition} AND NOT EXISTS (SELECT FROM pg_temp.had h WHERE h.uri = {uri}){}",
            info.name,
            (self.collections)(&uri)
        );
        if info.id == table::NOTIFICATION.info().id {
            // The official code notifies of a deleted verification after its record is gone.
            sql.push_str(" AND x.reason <> 'unverified'");
        }
        self.noting.with(info.name, &sql, Way::Went)
    }
}

fn of_records() -> impl Iterator<Item = &'static TableInfo> {
    table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id)
}

/// The column with the account that a row belongs to, if an index begins with it (or the table is
/// small, as that of labelers).
#[must_use]
pub fn indexed_owner(info: &TableInfo) -> Option<&'static str> {
    let without_index = [
        table::THREAD_GATE.info().id,
        table::POST_GATE.info().id,
        table::VERIFICATION.info().id,
    ];
    owner_column(info).filter(|_| !without_index.contains(&info.id))
}

/// The column with the account that a row belongs to.
fn owner_column(info: &TableInfo) -> Option<&'static str> {
    let names = ["creator", "author", "originatorDid"];
    info.columns
        .iter()
        .map(|column| column.name)
        .find(|name| names.contains(name))
}

/// Deletes rows of other records that hold the unique key of a staged row: no other account's
/// record can have it.
pub(crate) fn delete_holders_of_keys(client: &mut Client, noting: &Noting) -> Result<(), Error> {
    let mut sql = String::new();
    for info in of_records().filter(|info| !info.unique.is_empty()) {
        let (table, staged) = (info.name, name_of(info));
        let same = |row: &str| {
            let of_column = |column: &&str| format!("{row}.\"{column}\" = n.\"{column}\"");
            let columns: Vec<String> = info.unique.iter().map(of_column).collect();
            format!("{} AND {row}.uri <> n.uri", columns.join(" AND "))
        };
        let delete = format!(
            "DELETE FROM \"{table}\" x USING pg_temp.\"{staged}\" n WHERE {} AND {}
               AND NOT EXISTS (SELECT FROM pg_temp.had h WHERE h.uri = x.uri)",
            among(table, &staged, &same("y")),
            same("x")
        );
        let _ = write!(sql, "{};", noting.with(table, &delete, Way::Went));
    }
    client.batch_execute(&sql)
}

/// SQL: the condition that a row `x` is one of those that a look-up for each staged row `n` finds,
/// as `y`. Nobody has analyzed the staged rows, and a planner that joins them freely reads the
/// whole table.
fn among(table: &str, staged: &str, condition: &str) -> String {
    format!(
        "x.uri = ANY(ARRAY(SELECT f.uri FROM pg_temp.\"{staged}\" n
           CROSS JOIN LATERAL (SELECT y.uri FROM \"{table}\" y WHERE {condition} OFFSET 0) f))"
    )
}

/// Deletes rows of `record` that have the URI of a staged record but name another account.
pub(crate) fn delete_mislabeled(client: &mut Client, noting: &Noting) -> Result<(), Error> {
    let name = table::RECORD.info().name;
    let among = among(name, "new_record", "y.uri = n.uri AND y.did <> n.did");
    let delete = format!(
        "DELETE FROM record x USING pg_temp.new_record n WHERE {among} AND x.uri = n.uri AND x.did <> n.did"
    );
    client.batch_execute(&noting.with(name, &delete, Way::Went))
}

/// Whether the database compares text by bytes, so that a prefix is a range of an index.
///
/// # Errors
/// The server refused.
pub fn sorts_by_bytes(client: &mut Client) -> Result<bool, Error> {
    // PostgreSQL 14 has no column `datlocprovider`.
    Ok(client
        .query_one(
            "SELECT datcollate IN ('C', 'POSIX') AND to_jsonb(d) ->> 'datlocprovider' IS DISTINCT FROM 'i'
             FROM pg_database d WHERE datname = current_database()",
            &[],
        )?
        .get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The official schema is in `conformance/schema.sql`, as the suite's `migrate` proves. The
    /// catalog in `appview` has no order of columns.
    #[test]
    fn an_owner_is_indexed_where_an_index_of_the_official_schema_begins_with_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance/schema.sql");
        let schema = std::fs::read_to_string(path).unwrap().replace('"', "");
        let statements: Vec<Vec<&str>> = schema
            .split(';')
            .map(|statement| statement.split_whitespace().collect())
            .collect();
        for info in table::ALL {
            let Some(owner) = owner_column(info) else {
                continue;
            };
            let table = format!("bsky.{}", info.name);
            // Such as `UNIQUE (creator, subjectDid)` or `USING btree (creator)`.
            let begins_with_owner = |words: &[&str]| {
                ["btree", "UNIQUE", "KEY"].contains(&words[0])
                    && words[1].trim_matches(['(', ',', ')']) == owner
            };
            let is_indexed = statements.iter().any(|words| {
                words.contains(&table.as_str()) && words.windows(2).any(begins_with_owner)
            });
            let is_small = info.id == table::LABELER.info().id;
            assert_eq!(
                indexed_owner(info).is_some(),
                is_indexed || is_small,
                "{}.{owner}",
                info.name
            );
        }
    }
}
