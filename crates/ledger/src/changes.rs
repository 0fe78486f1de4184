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
//! | `written` | | | rows that a load inserted into and deleted from the watched tables |
//! | `updated` | | | rows that a load or finalize updated in them |
//!
//! A load that notes nothing (a fresh load, the lines of the original scripts) takes the schema out
//! of `finalized`; then everything is computed. So does a foreign writer: PostgreSQL counts the
//! rows that were inserted into and deleted from each table, and loads note how many were theirs.
//! It also counts what a transaction wrote that was rolled back: one that met a deadlock, or whose
//! process was killed, took its notes back. So where the server counts more than was noted, its
//! other counter decides: rows that committed transactions inserted, updated and deleted since a
//! table was analyzed. Where a table was analyzed in between, that is unknown, and the rows count
//! as a foreign writer's.
//!
//! Two things stay hidden: what a program wrote in the last seconds, because idle sessions report
//! their counts only every ten seconds; and what it wrote before the server lost its counts in a
//! crash, unless it moved `actor_sync` on, as the official indexer does. On PostgreSQL 14,
//! `actor_sync` alone is compared.

use crate::publication::{self, Operation};
use postgres::{Error, GenericClient};
use std::cmp::Ordering;
use std::fmt::Write;

/// Whether the rows of a statement came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It inserts them.
    Came,
    /// It updates them.
    Changed,
    /// It deletes them.
    Went,
}

/// Tables that finalize reads and does not insert into or delete from.
const WATCHED: &str = "'record', 'post', 'like', 'repost', 'follow', 'quote', 'post_embed_record', 'thread_gate', 'post_gate', 'list_item'";

/// The step of the ledger's schema for the counter that knows no rolled-back rows: `committed` is
/// its value when `written` was noted, `analyses` how often tables had been analyzed by then.
pub(crate) const COMMITTED_STEP: &str =
    "ALTER TABLE skyfill.finalized ADD COLUMN committed bigint NOT NULL DEFAULT 0,
        ADD COLUMN analyses bigint NOT NULL DEFAULT -1";

/// Notes of one transaction.
#[derive(Clone, Debug)]
pub struct Noting {
    schema: String,
    is_on: bool,
    /// Whether records are published ([`publication`]).
    is_published: bool,
    /// Whether the server reports its counts when it is told to: since PostgreSQL 15.
    has_flush: bool,
    /// What this session wrote before and has not reported yet: rows that came or went, and rows
    /// that were updated.
    before: (i64, i64),
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
                 to_regproc('pg_stat_force_next_flush') IS NOT NULL, ({}), ({}), {}",
                written_here(schema),
                updated_here(schema),
                publication::exists(schema)
            ),
            &[&schema],
        )?;
        Ok(Self {
            schema: schema.to_owned(),
            is_on: row.get(0),
            is_published: row.get(4),
            has_flush: row.get(1),
            before: (row.get(2), row.get(3)),
        })
    }

    /// The same, whether or not everything is to be computed: for whoever computes what follows
    /// from this transaction alone.
    ///
    /// # Errors
    /// The server refused.
    pub fn begin_always(client: &mut impl GenericClient, schema: &str) -> Result<Self, Error> {
        Ok(Self {
            is_on: true,
            ..Self::begin(client, schema)?
        })
    }

    /// For a transaction that notes nothing.
    #[must_use]
    pub fn off(schema: &str) -> Self {
        Self {
            schema: schema.to_owned(),
            is_on: false,
            is_published: false,
            has_flush: false,
            before: (0, 0),
        }
    }

    /// A statement that writes `table`, where the table is called `x`, with the notes that belong
    /// to it: those for finalize, and those of what is to be published.
    #[must_use]
    pub fn with(&self, table: &str, statement: &str, way: Way) -> String {
        let published = (self.is_published && table == "record").then(|| {
            let operation = match way {
                Way::Came => Operation::Create,
                Way::Changed => Operation::Update,
                Way::Went => Operation::Delete,
            };
            publication::note_records(&self.schema, operation)
        });
        let Some((columns, notes)) = notes_of(table).filter(|_| self.is_on) else {
            return match published {
                Some(notes) => format!("WITH changed AS ({statement} RETURNING x.uri) {notes}"),
                None => statement.to_owned(),
            };
        };
        let sign = match way {
            Way::Came => "1",
            Way::Changed => "0",
            Way::Went => "-1",
        };
        let published =
            published.map_or(String::new(), |notes| format!(", published AS ({notes})"));
        format!(
            "WITH changed AS ({statement} RETURNING {columns}){published}
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
                 SELECT '{schema}', w.kind, '', w.rows
                 FROM (VALUES ('written', ({}) - {}), ('updated', ({}) - {})) w (kind, rows) WHERE w.rows <> 0",
                written_here(schema),
                self.before.0,
                updated_here(schema),
                self.before.1
            );
        } else {
            let _ = write!(sql, "; {}", crate::slices::out_of_date(schema));
        }
        if self.has_flush {
            sql.push_str("; SELECT pg_stat_force_next_flush()");
        }
        // Of a note that a crash took back after it was published, the number would come again, for
        // something else.
        if self.is_published {
            sql.push_str("; SET LOCAL synchronous_commit = on");
        }
        sql
    }
}

/// SQL: rows that this session wrote to the watched tables and has not reported yet.
fn written_here(schema: &str) -> String {
    format!(
        "SELECT coalesce(sum(pg_stat_get_xact_tuples_inserted(c.oid) + pg_stat_get_xact_tuples_deleted(c.oid)), 0)::bigint FROM {}",
        watched(schema)
    )
}

/// SQL: rows of the watched tables that this session updated and has not reported yet.
fn updated_here(schema: &str) -> String {
    format!(
        "SELECT coalesce(sum(pg_stat_get_xact_tuples_updated(c.oid)), 0)::bigint FROM {}",
        watched(schema)
    )
}

/// Statements of finalize, in a transaction of theirs, with a note of the rows of watched tables
/// that they update.
#[must_use]
pub fn noting_updates(schema: &str, statements: &str) -> String {
    let updated = updated_here(schema);
    format!(
        "SELECT set_config('skyfill.updated_before', ({updated})::text, true);
         {statements}
         ;
         INSERT INTO skyfill.change (schema_name, kind, key, difference)
         SELECT '{schema}', 'updated', '', u.rows
         FROM (SELECT ({updated}) - current_setting('skyfill.updated_before')::bigint AS rows) u WHERE u.rows <> 0;
         DO $$ BEGIN
           IF to_regproc('pg_stat_force_next_flush') IS NOT NULL THEN PERFORM pg_stat_force_next_flush(); END IF;
         END $$"
    )
}

/// SQL: the watched tables, as `c`.
fn watched(schema: &str) -> String {
    format!(
        "pg_class c WHERE c.relnamespace = '\"{schema}\"'::regnamespace AND c.relkind = 'r' AND c.relname IN ({WATCHED})"
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
    /// As far as skyfill knows.
    known: Counts,
    /// As the server counts; nothing on PostgreSQL 14.
    counted: Option<Counts>,
}

/// What was written to the watched tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// Rows that were inserted and deleted, by the server's count also those of transactions that
    /// were rolled back.
    written: i64,
    /// Rows that committed transactions inserted, updated and deleted since the tables were
    /// analyzed.
    committed: i64,
    /// How often they were analyzed.
    analyses: i64,
}

impl Counts {
    /// The columns of the row from `at` on; nothing if they are NULL.
    fn of(row: &postgres::Row, at: usize) -> Option<Self> {
        Some(Self {
            written: row.get::<_, Option<i64>>(at)?,
            committed: row.get::<_, Option<i64>>(at + 1)?,
            analyses: row.get::<_, Option<i64>>(at + 2)?,
        })
    }
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
                "SELECT f.notifications, n.changes, f.written + n.written, f.committed + n.written + n.updated, f.analyses, s.*
                 FROM skyfill.finalized f
                   CROSS JOIN (SELECT count(*) FILTER (WHERE c.kind NOT IN ('written', 'updated')) AS changes,
                       coalesce(sum(c.difference) FILTER (WHERE c.kind = 'written'), 0)::bigint AS written,
                       coalesce(sum(c.difference) FILTER (WHERE c.kind = 'updated'), 0)::bigint AS updated
                     FROM skyfill.change c WHERE c.schema_name = $1) n
                   LEFT JOIN ({}) s ON to_regproc('pg_stat_force_next_flush') IS NOT NULL
                 WHERE f.schema_name = $1",
                counted_of_all(schema)
            ),
            &[&schema],
        )?;
        Ok(row.and_then(|row| {
            Some(Self {
                notifications: row.get(0),
                changes: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
                known: Counts::of(&row, 2)?,
                counted: Counts::of(&row, 5),
            })
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
        let Some(counted) = self.counted else {
            return Writers::Uncounted;
        };
        match counted.written.cmp(&self.known.written) {
            Ordering::Less => Writers::Uncounted,
            Ordering::Equal => Writers::Ours,
            Ordering::Greater if counted.analyses != self.known.analyses => Writers::Foreign,
            // What was written beyond that was rolled back, or is somebody else's.
            Ordering::Greater => match counted.committed.cmp(&self.known.committed) {
                Ordering::Less => Writers::Uncounted,
                Ordering::Equal => Writers::Ours,
                Ordering::Greater => Writers::Foreign,
            },
        }
    }

    /// From where counting goes on once the changes are taken. If the server lost its counts, they
    /// are those that it has now; else a transaction that it has not counted yet is not lost.
    fn base(&self, are_lost: bool) -> Counts {
        let (known, Some(counted)) = (self.known, self.counted) else {
            return self.known;
        };
        if are_lost {
            return counted;
        }
        Counts {
            written: counted.written.max(known.written),
            committed: match counted.analyses == known.analyses {
                true => counted.committed.max(known.committed),
                false => counted.committed,
            },
            analyses: counted.analyses,
        }
    }
}

/// Whether derived rows are to be computed: something is noted, a computation was interrupted that
/// had taken notes, or they never were.
///
/// # Errors
/// The server refused.
pub fn is_due(client: &mut impl GenericClient, schema: &str) -> Result<bool, Error> {
    let row = client.query_one(
        "SELECT EXISTS (SELECT FROM skyfill.change WHERE schema_name = $1 AND kind NOT IN ('written', 'updated'))
           OR EXISTS (SELECT FROM skyfill.finalize_slice WHERE schema_name = $1)
           OR NOT EXISTS (SELECT FROM skyfill.finalized WHERE schema_name = $1)",
        &[&schema],
    )?;
    Ok(row.get(0))
}

/// SQL: what was written to the watched tables since the server counts.
fn counted_of_all(schema: &str) -> String {
    format!(
        "SELECT coalesce(sum(pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_deleted(c.oid)), 0)::bigint AS written,
           coalesce(sum(pg_stat_get_mod_since_analyze(c.oid)), 0)::bigint AS committed,
           coalesce(sum(pg_stat_get_analyze_count(c.oid) + pg_stat_get_autoanalyze_count(c.oid)), 0)::bigint AS analyses
         FROM {}",
        watched(schema)
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

/// Moves the noted changes into a table of finalize, one row for each thing that changed. `known`
/// is what was known in this transaction, if anything; `are_counts_lost` says that the server does
/// not count on from there.
///
/// # Errors
/// The server refused.
pub fn take(
    client: &mut impl GenericClient,
    schema: &str,
    into: &str,
    known: Option<&Finalized>,
    are_counts_lost: bool,
) -> Result<(), Error> {
    if let Some(base) = known.map(|known| known.base(are_counts_lost)) {
        client.execute(
            "UPDATE skyfill.finalized SET written = $2, committed = $3, analyses = $4 WHERE schema_name = $1",
            &[&schema, &base.written, &base.committed, &base.analyses],
        )?;
    }
    client.execute(
        &format!(
            "WITH taken AS (DELETE FROM skyfill.change WHERE schema_name = $1 RETURNING kind, key, other, difference)
             INSERT INTO {into} (kind, key, other, difference)
             SELECT kind, key, other, sum(difference) FROM taken WHERE kind NOT IN ('written', 'updated') GROUP BY kind, key, other"
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
    distrust_all(client)?;
    crate::distrust::distrust(client, schema)?;
    forget(client, schema)
}

/// SQL: the URIs (`uri`) of the records that were noted and not taken, whatever became of them.
#[must_use]
pub fn noted_records(schema: &str) -> String {
    format!(
        "SELECT DISTINCT key AS uri FROM skyfill.change WHERE schema_name = '{schema}' AND kind = 'record'"
    )
}

/// SQL: by how much (`replies`) the counts of replies of posts (`key`) change by what was noted and
/// not taken.
#[must_use]
pub fn noted_replies(schema: &str) -> String {
    format!(
        "SELECT key, sum(difference) AS replies FROM skyfill.change WHERE schema_name = '{schema}' AND kind = 'reply' GROUP BY key"
    )
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
            "INSERT INTO skyfill.finalized (schema_name, notifications, written, committed, analyses)
             SELECT $1, $2, s.written, s.committed, s.analyses FROM ({}) s
             ON CONFLICT (schema_name) DO UPDATE SET ended_at = now(), notifications = excluded.notifications,
               written = excluded.written, committed = excluded.committed, analyses = excluded.analyses",
            counted_of_all(schema)
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

/// Takes all schemas out of `finalized`: what finalize keeps for itself, which belongs to one
/// schema, is about to be lost.
///
/// # Errors
/// The server refused.
pub fn distrust_all(client: &mut impl GenericClient) -> Result<(), Error> {
    client.execute("DELETE FROM skyfill.finalized", &[])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_were_rolled_back_are_nobodys() {
        let counts = |written, committed, analyses| Counts {
            written,
            committed,
            analyses,
        };
        let writers = |counted| {
            let known = Finalized {
                notifications: String::new(),
                changes: 0,
                known: counts(100, 40, 2),
                counted,
            };
            known.writers()
        };
        for (counted, expected) in [
            (counts(100, 40, 2), Writers::Ours),
            (counts(90, 40, 2), Writers::Uncounted),
            (counts(130, 40, 2), Writers::Ours),
            (counts(130, 70, 2), Writers::Foreign),
            // Its own transaction is not counted yet.
            (counts(130, 30, 2), Writers::Uncounted),
            // Since it was analyzed, nobody knows.
            (counts(130, 0, 3), Writers::Foreign),
            (counts(100, 0, 3), Writers::Ours),
        ] {
            assert_eq!(writers(Some(counted)), expected, "{counted:?}");
        }
        assert_eq!(writers(None), Writers::Uncounted);
    }

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
