//! The SQL that makes the stored rows of repos those of their newest rev: creates, updates and deletes are found by comparing `record` with what
//! came. Records that are the same keep their rows, and with them flags, times and columns that repos do not own.
//!
//! Runs in the transaction that staged the rows in temporary tables ([`crate::merge`]). A record is *touched* when it is gone, has another
//! CID, or became or ceased to be a duplicate: its rows are deleted and written anew; its row in `record` is updated in place.

use crate::driver::{DbError, Driver, RustDriver};
use crate::merge::{self, staging};
use crate::repo_rows::LoadedRepo;
use appview::table::{self, TableInfo};
use postgres::{Client, Error};
use rows::route;
use std::fmt::Write;

/// Temporary tables of a connection, beside those of [`merge::prepare_session`].
pub(crate) fn prepare_session(driver: &mut RustDriver) -> Result<(), DbError> {
    driver.batch(
        "CREATE TEMPORARY TABLE had (uri text PRIMARY KEY, cid text NOT NULL);
         CREATE TEMPORARY TABLE touched (uri text PRIMARY KEY)",
    )
}

/// Empties all temporary tables.
pub(crate) fn empty(driver: &mut RustDriver) -> Result<(), DbError> {
    let names: Vec<String> = table::ALL
        .iter()
        .map(|info| format!("pg_temp.\"{}\"", staging(info)))
        .collect();
    driver.batch(&format!(
        "TRUNCATE {}, pg_temp.had, pg_temp.touched",
        names.join(", ")
    ))
}

/// Makes the rows of repos, or of the collections of their parts, those that are staged.
pub(crate) fn apply(driver: &mut RustDriver, repos: &[LoadedRepo], schema: &str) -> Result<(), DbError> {
    let client = driver.client();
    let dids: Vec<&str> = repos.iter().map(|repo| repo.did.as_str()).collect();
    let mut had = 0;
    let mut parts: Vec<(i16, i16)> = repos.iter().map(part_of).collect();
    parts.sort_unstable();
    parts.dedup();
    for part in parts {
        let of_part: Vec<&str> = repos
            .iter()
            .filter(|repo| part_of(repo) == part)
            .map(|repo| repo.did.as_str())
            .collect();
        let sql = format!(
            "INSERT INTO pg_temp.had SELECT uri, cid FROM record WHERE did = ANY($1){}",
            in_part(part)
        );
        had += client.execute(&sql, &[&of_part])?;
    }
    let touched = if had > 0 {
        // The planner takes temporary tables for small ones, and reads large tables by index: what it does not know it has to be told.
        client.batch_execute("ANALYZE pg_temp.had; ANALYZE pg_temp.new_record")?;
        let touched = client.execute(
            "INSERT INTO pg_temp.touched
             SELECT h.uri FROM pg_temp.had h LEFT JOIN pg_temp.new_record n ON n.uri = h.uri
             WHERE n.uri IS NULL OR n.cid <> h.cid
               OR n.did IN (SELECT did FROM skyfill.repo WHERE schema_name = $1 AND did = ANY($2) AND rebuild)
             UNION
             SELECT h.uri FROM pg_temp.had h
               LEFT JOIN duplicate_record d ON d.uri = h.uri LEFT JOIN pg_temp.new_duplicate_record n ON n.uri = h.uri
             WHERE (d.cid, d.\"duplicateOf\", d.\"indexedAt\") IS DISTINCT FROM (n.cid, n.\"duplicateOf\", n.\"indexedAt\")",
            &[&schema, &dids],
        )?;
        if touched > 0 {
            client.batch_execute("ANALYZE pg_temp.touched")?;
            client.batch_execute(&delete_touched())?;
            client.batch_execute(
                "DELETE FROM record r USING pg_temp.touched t
                 WHERE r.uri = t.uri AND NOT EXISTS (SELECT FROM pg_temp.new_record n WHERE n.uri = t.uri);
                 UPDATE record r SET cid = n.cid, json = n.json, \"indexedAt\" = n.\"indexedAt\"
                 FROM pg_temp.new_record n JOIN pg_temp.touched t ON t.uri = n.uri WHERE r.uri = n.uri;
                 DELETE FROM pg_temp.had h USING pg_temp.touched t WHERE h.uri = t.uri",
            )?;
        }
        touched
    } else {
        0
    };
    client.batch_execute(&insert_all(had > touched))?;
    let rebuilt = client.query(
        "SELECT did FROM skyfill.repo WHERE schema_name = $1 AND did = ANY($2) AND rebuild",
        &[&schema, &dids],
    )?;
    if !rebuilt.is_empty() {
        let rebuilt: Vec<String> = rebuilt.iter().map(|row| row.get(0)).collect();
        delete_strays(client, &rebuilt)?;
    }
    Ok(())
}

fn part_of(repo: &LoadedRepo) -> (i16, i16) {
    repo.part
        .as_ref()
        .map_or((0, 1), |part| (part.number, part.parts))
}

/// The condition that a record is of a collection that such a part holds ([`rows::route`]).
fn in_part((number, parts): (i16, i16)) -> String {
    let list = |collections: &[&str]| format!("('{}')", collections.join("', '"));
    let collection = "split_part(uri, '/', 4)";
    match (parts, number) {
        (3, 0) => format!(
            " AND {collection} NOT IN {} AND {collection} NOT IN {}",
            list(route::SECOND),
            list(route::THIRD)
        ),
        (3, 1) => format!(" AND {collection} IN {}", list(route::SECOND)),
        (3, _) => format!(" AND {collection} IN {}", list(route::THIRD)),
        _ => String::new(),
    }
}

/// Deletes rows of these accounts that belong to no record. Reads whole tables: only for repos that are repaired.
fn delete_strays(client: &mut Client, dids: &[String]) -> Result<(), Error> {
    for info in table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id)
    {
        let mut condition = "";
        if info.id == table::NOTIFICATION.info().id {
            // The official code tells of a verification that is gone after its record is.
            condition = " AND x.reason <> 'unverified'";
        }
        client.execute(
            &format!(
                "DELETE FROM \"{0}\" x WHERE split_part(x.\"{1}\", '/', 3) = ANY($1)
                 AND NOT EXISTS (SELECT FROM record r WHERE r.uri = x.\"{1}\"){condition}",
                info.name, info.uri
            ),
            &[&dids],
        )?;
    }
    Ok(())
}

/// Deletes all rows of touched records but those of `record`. Large tables are read by index, whatever the planner thinks.
fn delete_touched() -> String {
    let mut sql = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
         DELETE FROM op_thread_reply o USING post p, pg_temp.touched t
         WHERE p.uri = t.uri AND o.\"rootUri\" = p.\"replyRoot\" AND o.uri = p.uri;"
        .to_owned();
    let skipped = [table::RECORD.info().id, table::OP_THREAD_REPLY.info().id];
    for info in table::ALL.iter().filter(|info| !skipped.contains(&info.id)) {
        let _ = write!(
            sql,
            "DELETE FROM \"{}\" x USING pg_temp.touched t WHERE x.\"{}\" = t.uri;",
            info.name, info.uri
        );
    }
    sql.push_str("RESET enable_hashjoin; RESET enable_mergejoin");
    sql
}

/// Inserts what is staged, but for records that stay as they are (if `some_stay`).
fn insert_all(some_stay: bool) -> String {
    let mut sql = String::new();
    for info in table::ALL {
        let mut conditions = Vec::new();
        if some_stay {
            conditions.push(format!(
                "NOT EXISTS (SELECT FROM pg_temp.had h WHERE h.uri = n.\"{}\")",
                info.uri
            ));
        }
        if info.id == table::NOTIFICATION.info().id {
            conditions.push(merge::NOT_MUTED.to_owned());
        }
        let _ = write!(sql, "{};", insert(info, &conditions));
    }
    sql
}

fn insert(info: &TableInfo, conditions: &[String]) -> String {
    let columns = info.column_list();
    let condition = if conditions.is_empty() {
        String::new()
    } else {
        format!(" WHERE {}", conditions.join(" AND "))
    };
    // Notifications have no key but their number: nothing to collide with.
    let conflict = if info.id == table::NOTIFICATION.info().id {
        ""
    } else {
        " ON CONFLICT DO NOTHING"
    };
    format!(
        "INSERT INTO \"{}\" ({columns}) SELECT {columns} FROM pg_temp.\"{}\" n{condition}{conflict}",
        info.name,
        staging(info)
    )
}
