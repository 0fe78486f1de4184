//! The SQL that changes the stored rows of repos to those of their newest rev. It finds creates,
//! updates and deletes by comparing `record` with the staged records. Records that are the same
//! keep their rows, and with them flags, times and columns that repos do not own.
//!
//! It runs in the transaction that staged the rows in temporary tables ([`crate::staging`]), mostly
//! only those of records that differ ([`crate::differing`]). A
//! record is *touched* when it is gone, has another CID, or became or ceased to be a duplicate. Its
//! rows are deleted and written again; its row in `record` is updated in place.
//!
//! Two kinds of repos need more than that:
//! - A repo that skyfill loads for the first time although it has rows: another indexer wrote them,
//!   in an order of its own. A record whose rows do not follow from it is touched, too, and rows
//!   that belong to no record are deleted ([`crate::inherited`]). So the tables end as after a
//!   fresh load, except for the times at which that indexer saw the records, which stay.
//! - A repo that is repaired or removed: none of its rows is trusted. All of its records are
//!   touched, and all rows that name it as their owner or begin with its URI are deleted before the
//!   new ones are inserted ([`crate::owned`]).

use crate::chunk::LoadedRepo;
use crate::differing::Difference;
use crate::owned::Owned;
use crate::staged::Staged;
use crate::staging::{self, name_of};
use crate::{inherited, owned};
use appview::table::{self, Lead, TableInfo};
use ledger::changes::{Noting, Way};
use pg::DbError;
use postgres::Client;
use rows::{Collection, route};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Settings and own temporary tables of a new connection; the others are made as they are needed.
pub(crate) fn prepare_session(client: &mut Client, schema: &str) -> Result<(), DbError> {
    client.batch_execute(&staging::session_settings(schema))?;
    client.batch_execute(
        "CREATE TEMPORARY TABLE had (uri text PRIMARY KEY, cid text NOT NULL, did text NOT NULL, \"indexedAt\" text NOT NULL);
         CREATE TEMPORARY TABLE touched (uri text PRIMARY KEY)",
    )?;
    Ok(())
}

/// The setting for the transactions of a merge: large tables are read by index, whatever their
/// statistics say.
pub(crate) const BY_INDEX: &str = "SET LOCAL enable_seqscan = off";

/// What is known of the repos before their rows are compared.
struct Before {
    /// Those whose rows are not trusted.
    distrusted: Vec<String>,
    /// Those that skyfill loads for the first time.
    new: Vec<String>,
}

/// What became of the stored records of a transaction's repos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Records that stayed as they were.
    pub kept: u64,
    /// Records whose rows were deleted, to be written again if the repo still has the record.
    pub replaced: u64,
}

/// Changes the rows of repos, or of the collections of their parts, to the staged ones. If others
/// write the tables, too, nothing that is stored is taken for skyfill's own.
pub(crate) fn apply(
    client: &mut Client,
    (repos, staged): (&[LoadedRepo], &mut Staged),
    schema: &str,
    difference: &Difference,
    noting: &Noting,
    is_beside: bool,
) -> Result<Rewritten, DbError> {
    let dids: Vec<&str> = repos.iter().map(|repo| repo.did.as_str()).collect();
    let (distrusted, mut new) = ledger::repos::rebuilt_and_new(client, schema, &dids)?;
    if is_beside {
        let trusted = dids
            .iter()
            .filter(|did| !distrusted.iter().any(|d| d == *did));
        new = trusted.map(|did| (*did).to_owned()).collect();
    }
    let before = Before { distrusted, new };
    replace(client, (repos, staged), &before, difference, noting)
}

/// Changes the rows of repos of which skyfill alone stored what is there, and whose rows of the
/// ledger are locked.
pub(crate) fn apply_to_own(
    client: &mut Client,
    (repos, staged): (&[LoadedRepo], &mut Staged),
    difference: &Difference,
    noting: &Noting,
) -> Result<Rewritten, DbError> {
    let before = Before {
        distrusted: Vec::new(),
        new: Vec::new(),
    };
    replace(client, (repos, staged), &before, difference, noting)
}

/// Removes all rows of a repo. Nothing is staged.
pub(crate) fn remove(
    client: &mut Client,
    staged: &mut Staged,
    did: &str,
    noting: &Noting,
) -> Result<(), DbError> {
    // A repo without records: everything that it had is gone.
    let nothing = LoadedRepo {
        did: did.to_owned(),
        ..LoadedRepo::default()
    };
    let before = Before {
        distrusted: vec![did.to_owned()],
        new: Vec::new(),
    };
    let none = Difference::default();
    replace(client, (&[nothing], staged), &before, &none, noting)?;
    Ok(())
}

fn replace(
    client: &mut Client,
    (repos, staged): (&[LoadedRepo], &mut Staged),
    before: &Before,
    difference: &Difference,
    noting: &Noting,
) -> Result<Rewritten, DbError> {
    let mut parts: Vec<(i16, i16)> = repos.iter().map(part_of).collect();
    parts.sort_unstable();
    parts.dedup();
    let of_part = |part| -> Vec<&str> {
        let repos = repos.iter().filter(|repo| part_of(repo) == part);
        repos.map(|repo| repo.did.as_str()).collect()
    };
    // Of some repos only the differences were staged.
    let mut had = client.execute(
        "INSERT INTO pg_temp.had SELECT uri, cid, did, \"indexedAt\" FROM record WHERE uri = ANY($1)",
        &[&difference.touched],
    )?;
    let is_whole = |did: &&str| !difference.accounts.contains(*did);
    for part in &parts {
        let sql = format!(
            "INSERT INTO pg_temp.had SELECT uri, cid, did, \"indexedAt\" FROM record WHERE did = ANY($1){}",
            in_part(*part, "uri")
        );
        let whole: Vec<&str> = of_part(*part).into_iter().filter(is_whole).collect();
        had += client.execute(&sql, &[&whole])?;
    }
    staged.had(had);
    had -= delete_strangers(client, noting)?;
    // Repos of which another indexer wrote rows.
    let inherited: Vec<String> = match had {
        0 => Vec::new(),
        _ => client
            .query(
                "SELECT DISTINCT did FROM pg_temp.had WHERE did = ANY($1)",
                &[&before.new],
            )?
            .iter()
            .map(|row| row.get(0))
            .collect(),
    };
    let compares_all = !before.distrusted.is_empty() || !inherited.is_empty();
    if compares_all {
        staged.make(client, table::ALL)?;
    }
    let touched = match had {
        0 => Touched::default(),
        _ => find_touched(client, before, &inherited)?,
    };
    if touched.records > 0 {
        rewrite_touched(client, &touched, noting)?;
    }
    // Records that are left in `had` stay as they are.
    for part in parts {
        let of_part = of_part(part);
        let chosen = |dids: &[String]| -> Vec<String> {
            let chosen = dids.iter().filter(|did| of_part.contains(&did.as_str()));
            chosen.cloned().collect()
        };
        let owned = Owned {
            collections: &|column| in_part(part, column),
            noting,
        };
        owned.delete_all(client, &chosen(&before.distrusted))?;
        owned.delete_unstaged(client, &chosen(&inherited))?;
    }
    if compares_all {
        owned::delete_holders_of_keys(client, noting)?;
        owned::delete_mislabeled(client, noting)?;
    }
    let some_stay = had > touched.records;
    client.batch_execute(&insert_all(staged.tables(), some_stay, noting))?;
    Ok(Rewritten {
        kept: had - touched.records,
        replaced: touched.records,
    })
}

/// The records in `touched`.
#[derive(Default)]
struct Touched {
    records: u64,
    /// Where their rows may be, beside `record`.
    tables: BTreeSet<usize>,
}

/// Deletes the rows of touched records, and brings their rows of `record` to what was staged.
fn rewrite_touched(client: &mut Client, touched: &Touched, noting: &Noting) -> Result<(), DbError> {
    client.batch_execute("ANALYZE pg_temp.touched")?;
    client.batch_execute(&delete_touched(&touched.tables, noting))?;
    let record = table::RECORD.info().name;
    let gone = noting.with(
        record,
        "DELETE FROM record x USING pg_temp.touched t
         WHERE x.uri = t.uri AND NOT EXISTS (SELECT FROM pg_temp.new_record n WHERE n.uri = t.uri)",
        Way::Went,
    );
    let changed = noting.with(
        record,
        "UPDATE record x SET cid = n.cid, json = n.json, \"indexedAt\" = n.\"indexedAt\"
         FROM pg_temp.new_record n JOIN pg_temp.touched t ON t.uri = n.uri WHERE x.uri = n.uri",
        Way::Changed,
    );
    client.batch_execute(&format!(
        "{gone}; {changed}; DELETE FROM pg_temp.had h USING pg_temp.touched t WHERE h.uri = t.uri"
    ))?;
    Ok(())
}

/// Deletes rows of `record` that name an account at hand under the URI of another account; how
/// many. They are forgotten here: the other rows of that URI are the other account's, and its own
/// repair may be writing them at this moment.
fn delete_strangers(client: &mut Client, noting: &Noting) -> Result<u64, DbError> {
    let is_stranger = "NOT starts_with(h.uri, 'at://' || h.did || '/')";
    let gone = noting.with(
        table::RECORD.info().name,
        &format!("DELETE FROM record x USING pg_temp.had h WHERE {is_stranger} AND x.uri = h.uri AND x.did = h.did"),
        Way::Went,
    );
    client.batch_execute(&gone)?;
    let sql = format!("DELETE FROM pg_temp.had h WHERE {is_stranger}");
    Ok(client.execute(&sql, &[])?)
}

/// Adds records to `touched` whose rows must be written again.
fn find_touched(
    client: &mut Client,
    before: &Before,
    inherited: &[String],
) -> Result<Touched, DbError> {
    // Without statistics, the planner may walk through a large table and look its rows up in these.
    // Those of one column suffice.
    client.batch_execute("ANALYZE pg_temp.had (uri); ANALYZE pg_temp.new_record (uri)")?;
    // A duplicate has the time of its record.
    let found = client.query(
        "WITH touched AS (
           INSERT INTO pg_temp.touched
           SELECT h.uri FROM pg_temp.had h LEFT JOIN pg_temp.new_record n ON n.uri = h.uri
           WHERE n.uri IS NULL OR n.cid <> h.cid OR h.did = ANY($1)
           UNION
           SELECT h.uri FROM pg_temp.had h
             LEFT JOIN LATERAL (SELECT d.* FROM duplicate_record d WHERE d.uri = h.uri OFFSET 0) d ON true
             LEFT JOIN pg_temp.new_duplicate_record n ON n.uri = h.uri
           WHERE (d.cid, d.\"duplicateOf\", d.\"indexedAt\")
             IS DISTINCT FROM (n.cid, n.\"duplicateOf\", CASE WHEN n.uri IS NOT NULL THEN h.\"indexedAt\" END)
           RETURNING uri)
         SELECT split_part(uri, '/', 4), count(*) FROM touched GROUP BY 1",
        &[&before.distrusted],
    )?;
    let is_ours = before.distrusted.is_empty() && inherited.is_empty();
    let mut touched = Touched::default();
    for row in found {
        let collection = Collection::parse(row.try_get(0)?).filter(|_| is_ours);
        let tables = collection.map(rows::tables_of);
        let tables = tables.as_deref().unwrap_or(table::ALL);
        touched.tables.extend(tables.iter().map(|info| info.id));
        touched.records += u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or(0);
    }
    if !inherited.is_empty() {
        touched.records += inherited::find_touched(client, inherited)?;
        touched.tables.extend(table::ALL.iter().map(|info| info.id));
    }
    Ok(touched)
}

fn part_of(repo: &LoadedRepo) -> (i16, i16) {
    repo.part
        .as_ref()
        .map_or((0, 1), |part| (part.number, part.parts))
}

/// The condition that the record of `uri` belongs to a collection of this part ([`rows::route`]).
fn in_part((number, parts): (i16, i16), uri: &str) -> String {
    let list = |collections: &[&str]| format!("('{}')", collections.join("', '"));
    let collection = format!("split_part({uri}, '/', 4)");
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

/// SQL: deletes the rows of touched records in these tables, except those in `record`. All are read
/// by index, whatever the planner thinks: large tables because of their size, `touched` because
/// finalize locks posts in the order of their URIs, too.
fn delete_touched(tables: &BTreeSet<usize>, noting: &Noting) -> String {
    let mut sql = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;".to_owned();
    let of_records = table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id && tables.contains(&info.id));
    // Rows that a post leads to go before the post.
    let (led, others): (Vec<_>, Vec<_>) = of_records.partition(|info| info.lead.is_some());
    for info in led.into_iter().chain(others) {
        let TableInfo { name, uri, .. } = info;
        let (above, found) = match info.lead {
            None => ("", String::new()),
            Some(Lead { column, of_post }) => (
                "post p, ",
                format!(" AND p.uri = t.uri AND x.\"{column}\" = p.\"{of_post}\""),
            ),
        };
        let delete = format!(
            "DELETE FROM \"{name}\" x USING {above}pg_temp.touched t WHERE x.\"{uri}\" = t.uri{found}"
        );
        let _ = write!(sql, "{};", noting.with(name, &delete, Way::Went));
    }
    sql.push_str("RESET enable_hashjoin; RESET enable_mergejoin");
    sql
}

/// SQL: inserts the staged rows, except for records that stay as they are (if `some_stay`).
fn insert_all(filled: &[TableInfo], some_stay: bool, noting: &Noting) -> String {
    let mut sql = String::new();
    let is_filled = |info: &&TableInfo| filled.iter().any(|filled| filled.id == info.id);
    for info in table::ALL.iter().filter(is_filled) {
        let mut conditions = Vec::new();
        if some_stay {
            conditions.push(format!(
                "NOT EXISTS (SELECT FROM pg_temp.had h WHERE h.uri = n.\"{}\")",
                info.uri
            ));
        }
        if info.id == table::NOTIFICATION.info().id {
            conditions.push(staging::NOT_MUTED.to_owned());
        }
        let insert = insert(info, &conditions);
        let _ = write!(sql, "{};", noting.with(info.name, &insert, Way::Came));
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
        "INSERT INTO \"{}\" AS x ({columns}) SELECT {columns} FROM pg_temp.\"{}\" n{condition}{conflict}",
        info.name,
        name_of(info)
    )
}
