//! What changed since derived rows were computed (tables `change` and `finalized`).
//!
//! While a schema is in `finalized`, its derived rows are those of its rows, except for what
//! `change` names. A load that merges adds to it in its own transaction: each statement that writes
//! rows also notes what depends on them ([`Noting::with`]), so nothing is noted that did not
//! happen, and nothing happens unnoted. A like costs one row per subject and transaction; of other
//! records, each one costs a row. Finalize takes the rows away when it begins to work on them.
//!
//! | kind | key | other | difference |
//! |---|---|---|---|
//! | `record` | URI of a record that came, changed or went, except likes and reposts | | |
//! | `like`, `repost`, `reply` | subject or parent | | how many more there are |
//! | `posts`, `following`, `follower` | account | | how many more it has |
//! | `follow` | who follows | whom | |
//! | `listed` | list | account | |
//! | `quote` | the quoted post | the quoted CID | how many more there are |
//! | `thread gate`, `post gate` | URI of a gate | the post that it names | |
//! | `written` | | | rows that the load wrote to the watched tables |
//!
//! A load that notes nothing (a fresh load, the lines of the original scripts) takes the schema out
//! of `finalized`; then everything is computed. So does a foreign writer: PostgreSQL counts the
//! rows that were inserted into and deleted from each table, and loads note how many were theirs.
//! Two things stay hidden: what a program wrote in the last seconds, because idle sessions report
//! their counts only every ten seconds; and what it wrote before the server lost its counts in a
//! crash, unless it moved `actor_sync` on, as the official indexer does. On PostgreSQL 14,
//! `actor_sync` alone is compared.

use postgres::{Error, GenericClient};
use std::fmt::Write;

/// Whether the rows of a statement came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It inserts them.
    Came,
    /// It deletes them.
    Went,
}

/// Tables that finalize reads and does not insert into or delete from.
const WATCHED: &str = "'record', 'post', 'like', 'repost', 'follow', 'quote', 'post_embed_record', 'thread_gate', 'post_gate', 'list_item'";

/// Notes of one transaction.
#[derive(Clone, Debug)]
pub struct Noting {
    schema: String,
    is_on: bool,
    /// Whether the server reports its counts when it is told to: since PostgreSQL 15.
    has_flush: bool,
    /// What this session wrote before and has not reported yet.
    before: i64,
}

impl Noting {
    /// Notes for the transaction that begins now. They are left out if everything is to be computed
    /// anyway.
    ///
    /// # Errors
    /// The server refused.
    pub fn begin(client: &mut impl GenericClient, schema: &str) -> Result<Self, Error> {
        let row = client.query_one(
            &format!(
                "SELECT EXISTS (SELECT FROM skyfill.finalized WHERE schema_name = $1)
                   OR EXISTS (SELECT FROM skyfill.finalize_slice WHERE schema_name = $1),
                 to_regproc('pg_stat_force_next_flush') IS NOT NULL, ({})",
                written_here(schema)
            ),
            &[&schema],
        )?;
        Ok(Self {
            schema: schema.to_owned(),
            is_on: row.get(0),
            has_flush: row.get(1),
            before: row.get(2),
        })
    }

    /// For a transaction that notes nothing.
    #[must_use]
    pub fn off(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            is_on: false,
            has_flush: false,
            before: 0,
        }
    }

    /// A statement that inserts into `table` or deletes from it, where the table is called `x`,
    /// with the notes that belong to it.
    #[must_use]
    pub fn with(&self, table: &str, statement: &str, way: Way) -> String {
        let Some((columns, notes)) = notes_of(table).filter(|_| self.is_on) else {
            return statement.to_owned();
        };
        let sign = match way {
            Way::Came => "1",
            Way::Went => "-1",
        };
        format!(
            "WITH changed AS ({statement} RETURNING {columns})
             INSERT INTO skyfill.change (schema_name, kind, key, other, difference)
             SELECT '{}', n.* FROM ({}) n (kind, key, other, difference)",
            self.schema,
            notes.replace("{sign}", sign)
        )
    }

    /// The statements before COMMIT. They make sure that finalize notices the transaction, by its
    /// notes or without them, and that [`crate::slices::after_loads`] waits for it.
    #[must_use]
    pub fn before_commit(&self) -> String {
        let schema = &self.schema;
        let mut sql = crate::slices::load_commits();
        if self.is_on {
            // Everything may have been begun anew since the notes began.
            let _ = write!(
                sql,
                "; DELETE FROM skyfill.finalize_slice WHERE schema_name = '{schema}'
                   AND NOT EXISTS (SELECT FROM skyfill.finalized WHERE schema_name = '{schema}');
                 INSERT INTO skyfill.change (schema_name, kind, key, difference)
                 SELECT '{schema}', 'written', '', w.written FROM (SELECT ({}) - {} AS written) w WHERE w.written <> 0",
                written_here(schema),
                self.before
            );
        } else {
            let _ = write!(sql, "; {}", crate::slices::out_of_date(schema));
        }
        if self.has_flush {
            sql.push_str("; SELECT pg_stat_force_next_flush()");
        }
        sql
    }
}

/// SQL: rows that this session wrote to the watched tables and has not reported yet.
fn written_here(schema: &str) -> String {
    format!(
        "SELECT coalesce(sum(pg_stat_get_xact_tuples_inserted(c.oid) + pg_stat_get_xact_tuples_deleted(c.oid)), 0)::bigint
         FROM pg_class c WHERE c.relnamespace = '\"{schema}\"'::regnamespace AND c.relkind = 'r' AND c.relname IN ({WATCHED})"
    )
}

/// What is noted of the rows of a table: the columns that are needed, of `x`, and what follows from
/// them.
fn notes_of(table: &str) -> Option<(&'static str, &'static str)> {
    Some(match table {
        "record" => (
            "x.uri",
            "SELECT 'record', uri, NULL, 0 FROM changed
             WHERE split_part(uri, '/', 4) NOT IN ('app.bsky.feed.like', 'app.bsky.feed.repost', 'app.bsky.feed.post')",
        ),
        "post" => (
            "x.uri, x.\"replyParent\" AS parent, x.creator, x.\"violatesThreadGate\" IS TRUE AS is_shut",
            "SELECT 'record', uri, NULL, 0 FROM changed
             UNION ALL SELECT 'reply', parent, NULL, {sign} * count(*) FILTER (WHERE NOT is_shut) FROM changed WHERE parent IS NOT NULL GROUP BY parent
             UNION ALL SELECT 'posts', creator, NULL, {sign} * count(*) FROM changed GROUP BY creator",
        ),
        "like" => (
            "x.subject",
            "SELECT 'like', subject, NULL, {sign} * count(*) FROM changed GROUP BY subject",
        ),
        "repost" => (
            "x.subject",
            "SELECT 'repost', subject, NULL, {sign} * count(*) FROM changed GROUP BY subject",
        ),
        "follow" => (
            "x.creator, x.\"subjectDid\" AS subject",
            "SELECT 'follow', creator, subject, 0 FROM changed
             UNION ALL SELECT 'following', creator, NULL, {sign} * count(*) FROM changed GROUP BY creator
             UNION ALL SELECT 'follower', subject, NULL, {sign} * count(*) FROM changed GROUP BY subject",
        ),
        "list_item" => (
            "x.\"listUri\" AS list, x.\"subjectDid\" AS subject",
            "SELECT 'listed', list, subject, 0 FROM changed",
        ),
        "quote" => (
            "x.subject, x.\"subjectCid\" AS cid",
            "SELECT 'quote', subject, cid, {sign} * count(*) FROM changed GROUP BY subject, cid",
        ),
        "thread_gate" => (
            "x.uri, x.\"postUri\" AS post",
            "SELECT 'thread gate', uri, post, 0 FROM changed",
        ),
        "post_gate" => (
            "x.uri, x.\"postUri\" AS post",
            "SELECT 'post gate', uri, post, 0 FROM changed",
        ),
        _ => return None,
    })
}

/// What is known of a schema whose derived rows were computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finalized {
    /// The notifications that were stored.
    pub notifications: String,
    /// How many changes are noted.
    pub changes: u64,
    /// Rows that were written to the watched tables, as far as skyfill knows.
    known: i64,
    /// Rows that were written to them, as the server counts; nothing on PostgreSQL 14.
    counted: Option<i64>,
}

/// Who wrote to the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// Loads by skyfill alone, as far as anybody knows.
    Ours,
    /// Another program, too.
    Foreign,
    /// The server has not counted all yet, or has lost its counts.
    Uncounted,
}

impl Finalized {
    /// Reads it; nothing if everything has to be computed.
    ///
    /// # Errors
    /// The server refused.
    pub fn read(client: &mut impl GenericClient, schema: &str) -> Result<Option<Self>, Error> {
        let row = client.query_opt(
            &format!(
                "SELECT f.notifications, (SELECT count(*) FROM skyfill.change c WHERE c.schema_name = $1 AND c.kind <> 'written'),
                   f.written + (SELECT coalesce(sum(c.difference), 0)::bigint FROM skyfill.change c WHERE c.schema_name = $1 AND c.kind = 'written'),
                   CASE WHEN to_regproc('pg_stat_force_next_flush') IS NOT NULL THEN ({}) END
                 FROM skyfill.finalized f WHERE f.schema_name = $1",
                written_by_all(schema)
            ),
            &[&schema],
        )?;
        Ok(row.map(|row| Self {
            notifications: row.get(0),
            changes: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
            known: row.get(2),
            counted: row.get(3),
        }))
    }

    /// Whether the server's counts can be compared at all.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.counted.is_some()
    }

    /// Who wrote, by the server's counts.
    #[must_use]
    pub fn writers(&self) -> Writers {
        match self.counted {
            Some(counted) if counted > self.known => Writers::Foreign,
            Some(counted) if counted == self.known => Writers::Ours,
            _ => Writers::Uncounted,
        }
    }
}

/// SQL: rows that were written to the watched tables since the server counts.
fn written_by_all(schema: &str) -> String {
    format!(
        "SELECT coalesce(sum(pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_deleted(c.oid)), 0)::bigint
         FROM pg_class c WHERE c.relnamespace = '\"{schema}\"'::regnamespace AND c.relkind = 'r' AND c.relname IN ({WATCHED})"
    )
}

/// Whether `actor_sync` has other revs than the ledger: the official indexer moves it on. Reads
/// both as a whole.
///
/// # Errors
/// The server refused.
pub fn is_moved_on(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let sql = format!(
        "SELECT EXISTS (
           SELECT FROM \"{schema}\".actor_sync a LEFT JOIN skyfill.repo r ON r.schema_name = $1 AND r.did = a.did
           WHERE a.\"repoRev\" IS DISTINCT FROM r.rev AND r.state IS DISTINCT FROM 'coming')"
    );
    Ok(client.query_one(&sql, &[&schema])?.get(0))
}

/// Moves the noted changes into a table of finalize, one row for each thing that changed.
///
/// # Errors
/// The server refused.
pub fn take(client: &mut impl GenericClient, schema: &str, into: &str) -> Result<(), Error> {
    client.execute(
        &format!(
            "WITH taken AS (DELETE FROM skyfill.change WHERE schema_name = $1 RETURNING kind, key, other, difference),
             counted AS (
               UPDATE skyfill.finalized SET written = CASE WHEN to_regproc('pg_stat_force_next_flush') IS NOT NULL THEN ({}) ELSE 0 END
               WHERE schema_name = $1)
             INSERT INTO {into} (kind, key, other, difference)
             SELECT kind, key, other, sum(difference) FROM taken WHERE kind <> 'written' GROUP BY kind, key, other",
            written_by_all(schema)
        ),
        &[&schema],
    )?;
    Ok(())
}

/// Notes that everything is about to be computed: from now on, loads of any schema note nothing,
/// because what finalize keeps for itself belongs to one schema.
///
/// # Errors
/// The server refused.
pub fn begin_everything(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute("DELETE FROM skyfill.finalized", &[])?;
    crate::distrust::distrust(client, schema)?;
    forget(client, schema)
}

fn forget(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(
        "DELETE FROM skyfill.change WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(())
}

/// Notes that everything was computed. No load may commit meanwhile.
///
/// # Errors
/// The server refused.
pub fn end_everything(
    client: &mut impl GenericClient,
    schema: &str,
    notifications: &str,
) -> Result<(), Error> {
    // Notes of loads that began before and were noticed without them.
    forget(client, schema)?;
    client.execute(
        &format!(
            "INSERT INTO skyfill.finalized (schema_name, notifications, written)
             SELECT $1, $2, CASE WHEN to_regproc('pg_stat_force_next_flush') IS NOT NULL THEN ({}) ELSE 0 END
             ON CONFLICT (schema_name) DO UPDATE SET ended_at = now(), notifications = excluded.notifications, written = excluded.written",
            written_by_all(schema)
        ),
        &[&schema, &notifications],
    )?;
    Ok(())
}

/// Takes the schema out of `finalized`: everything is to be computed.
///
/// # Errors
/// The server refused.
pub fn distrust(client: &mut impl GenericClient, schema: &str) -> Result<(), Error> {
    client.execute(
        "DELETE FROM skyfill.finalized WHERE schema_name = $1",
        &[&schema],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_notes_what_it_writes_or_stays_as_it_is() {
        let mut noting = Noting::off("bsky");
        let statement = "DELETE FROM \"like\" x WHERE true";
        assert_eq!(noting.with("like", statement, Way::Went), statement);
        assert!(noting.before_commit().contains("skyfill.finalized"));
        noting.is_on = true;
        let noted = noting.with("like", statement, Way::Went);
        assert!(noted.contains("-1 * count(*)"), "{noted}");
        assert!(noted.contains("RETURNING x.subject"), "{noted}");
        assert_eq!(noting.with("profile", statement, Way::Went), statement);
        assert!(
            noting
                .before_commit()
                .contains(&crate::locks::Lock::Loads.key().to_string())
        );
    }
}
