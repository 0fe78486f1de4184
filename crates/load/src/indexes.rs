//! Dropping indexes and constraints with a way back, and putting them back.

use appview::table::TableInfo;
use ledger::dropped::{self, Dropped};
use postgres::{Client, Error};

/// What `migrate --drop-follow-indexes` drops, as the original script did; the primary key stays.
const FOLLOW: &[&str] = &[
    "follow_creator_cursor_idx",
    "follow_subject_cursor_idx",
    "follow_unique_subject",
];

/// Drops the indexes of `follow` and its unique constraint, and remembers them in the same transaction. What is
/// dropped already is left alone. Returns the names.
///
/// # Errors
/// The server refused, or somebody holds the table for more than ten seconds.
pub fn drop_follow(client: &mut Client, schema: &str) -> Result<Vec<String>, Error> {
    ledger::prepare(client)?;
    let mut txn = client.transaction()?;
    txn.batch_execute(&format!(
        "SET LOCAL lock_timeout = '10s'; LOCK TABLE \"{schema}\".follow IN ACCESS EXCLUSIVE MODE"
    ))?;
    let found = txn.query(
        "SELECT i.relname::text, con.conname IS NOT NULL,
                CASE WHEN con.conname IS NULL THEN pg_get_indexdef(i.oid)
                     ELSE format('ALTER TABLE %I.follow ADD CONSTRAINT %I %s', $1::text, con.conname, pg_get_constraintdef(con.oid)) END
         FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
         LEFT JOIN pg_constraint con ON con.conindid = i.oid
         WHERE x.indrelid = format('%I.follow', $1::text)::regclass AND i.relname::text = ANY($2) ORDER BY 1",
        &[&schema, &FOLLOW],
    )?;
    let mut names = Vec::new();
    for row in found {
        let (name, is_constraint, ddl): (String, bool, String) = (row.get(0), row.get(1), row.get(2));
        let statement = if is_constraint {
            format!("ALTER TABLE \"{schema}\".follow DROP CONSTRAINT \"{name}\"")
        } else {
            format!("DROP INDEX \"{schema}\".\"{name}\"")
        };
        dropped::save(
            &mut txn,
            schema,
            &Dropped {
                table: "follow".to_owned(),
                name: name.clone(),
                ddl,
            },
        )?;
        txn.batch_execute(&statement)?;
        names.push(name);
    }
    txn.commit()?;
    Ok(names)
}

/// What is missing in `schema` because skyfill dropped it.
///
/// # Errors
/// The server refused.
pub fn missing(client: &mut Client, schema: &str) -> Result<Vec<Dropped>, Error> {
    if !ledger::exists(client)? {
        return Ok(Vec::new());
    }
    dropped::list(client, schema)
}

/// Makes `what` again and forgets that it was dropped. A unique key of a table that repos fill is settled first: rows that came
/// in while nothing refused them give way to the first of them by rkey, as if they had been refused, and become
/// duplicates.
///
/// # Errors
/// The server refused; for a unique constraint, because rows that break it came in meanwhile.
pub fn restore(client: &mut Client, schema: &str, what: &Dropped) -> Result<(), Error> {
    let mut txn = client.transaction()?;
    // Somebody may have put it back by hand.
    let there = txn.query_opt(
        "SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2",
        &[&schema, &what.name],
    )?;
    if there.is_none() {
        let table = appview::table::ALL
            .iter()
            .find(|table| table.name == what.table && !table.unique.is_empty());
        if let (Some(table), true) = (table, what.ddl.contains(" UNIQUE ")) {
            txn.batch_execute(&settle(table, schema))?;
        }
        txn.batch_execute(&what.ddl)?;
    }
    dropped::forget(&mut txn, schema, &what.name)?;
    txn.commit()
}

/// Turns all rows of `table` but the first of each unique key into duplicates, and takes their notifications back.
fn settle(table: &TableInfo, schema: &str) -> String {
    let key: Vec<String> = table
        .unique
        .iter()
        .map(|column| format!("\"{column}\""))
        .collect();
    let (key, name) = (key.join(", "), table.name);
    format!(
        "SET LOCAL search_path TO \"{schema}\", public;
         LOCK TABLE \"{name}\" IN ACCESS EXCLUSIVE MODE;
         CREATE TEMPORARY TABLE loser ON COMMIT DROP AS
           SELECT * FROM (SELECT uri, cid, \"indexedAt\",
             first_value(uri) OVER (PARTITION BY {key} ORDER BY split_part(uri, '/', 5) COLLATE \"C\", uri COLLATE \"C\") AS winner
             FROM \"{name}\") ranked WHERE uri <> winner;
         INSERT INTO duplicate_record (uri, cid, \"duplicateOf\", \"indexedAt\")
           SELECT uri, cid, winner, \"indexedAt\" FROM loser ON CONFLICT DO NOTHING;
         DELETE FROM notification WHERE \"recordUri\" IN (SELECT uri FROM loser);
         DELETE FROM \"{name}\" WHERE uri IN (SELECT uri FROM loser)"
    )
}
