//! Plans of finalize at the size of the full network: no slice reads a whole table, and nothing
//! that is computed for changes does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use finalize::{Extent, Stage};
use load::Notifications;
use postgres::Client;
use testbed::{Planned, TestDb, pretend_rows};

/// Tables that grow with the network, and their rows.
const TABLES: &[(&str, f64)] = &[
    ("record", 20e9),
    ("post", 2.4e9),
    ("like", 12e9),
    ("repost", 1.6e9),
    ("follow", 3e9),
    ("notification", 18e9),
    ("quote", 2e8),
    ("post_embed_record", 2e8),
    ("thread_gate", 6e7),
    ("post_gate", 3e7),
    ("list_item", 1e8),
    ("post_agg", 1.5e9),
    ("profile_agg", 4.5e7),
    ("thread_mute", 1e6),
];

/// The same of what finalize makes itself.
const WORK_TABLES: &[(&str, f64)] = &[
    ("finalize_bad", 3e7),
    ("finalize_climb", 1e6),
    ("finalize_up", 2e6),
    ("finalize_root", 1e6),
    ("finalize_gate", 3e7),
    ("finalize_listed", 1e6),
    ("finalize_hidden", 1e7),
    ("finalize_mention", 1e7),
    ("finalize_disabled", 3e7),
    ("finalize_barred", 1e6),
    ("finalize_shut", 1e7),
    ("derived_cycle", 1e6),
    ("derived_stray", 6e7),
    ("derived_gated", 2e7),
    ("derived_list", 1e7),
    ("derived_second", 1e7),
    ("derived_quoted", 3e8),
];

/// What is as large as what changed.
const CHANGES: &[(&str, f64)] = &[
    ("finalize_change", 1e5),
    ("finalize_post", 1e5),
    ("finalize_requote", 1e4),
    ("finalize_difference", 1e4),
];

fn pretend(client: &mut Client, schema: &str, tables: &[(&str, f64)]) {
    for (table, rows) in tables {
        pretend_rows(client, &format!("{schema}.\"{table}\""), *rows);
    }
}

/// Rows from which the planner learns how values are distributed: 500 accounts, and each URI once.
fn sample(client: &mut Client, schema: &str, tables: &[(&str, f64)]) {
    for (table, _) in tables {
        let columns = client
            .query(
                "SELECT attname::text, atttypid::regtype::text FROM pg_attribute
                 WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''
                   AND NOT (attname = 'id')",
                &[&format!("{schema}.\"{table}\"")],
            )
            .unwrap();
        let (names, values): (Vec<String>, Vec<String>) = columns
            .iter()
            .map(|row| {
                let (name, kind): (&str, &str) = (row.get(0), row.get(1));
                let value = match (name, kind) {
                    ("uri" | "recordUri" | "postUri", _) => {
                        "'at://did:plc:' || n % 500 || '/app.bsky.feed.post/' || n".to_owned()
                    }
                    ("creator" | "author" | "did" | "subjectDid" | "mutedByDid", _)
                        if *table == "profile_agg" =>
                    {
                        "'did:plc:' || n".to_owned()
                    }
                    ("creator" | "author" | "did", _) => "'did:plc:' || n % 500".to_owned(),
                    (_, "bigint" | "integer") => "n".to_owned(),
                    (_, "boolean") => "n % 2 = 0".to_owned(),
                    (_, "jsonb" | "json") => "'{}'".to_owned(),
                    (_, "text[]" | "character varying[]") => "'{}'".to_owned(),
                    (_, "bytea") => "sha256(n::text::bytea)".to_owned(),
                    (_, kind) if kind.starts_with("timestamp") => "now()".to_owned(),
                    (name, _) => format!("'{name}' || n"),
                };
                (format!("\"{name}\""), value)
            })
            .unzip();
        let (names, values) = (names.join(", "), values.join(", "));
        client
            .batch_execute(&format!(
                "INSERT INTO {schema}.\"{table}\" ({names}) SELECT {values} FROM generate_series(1, 3000) n ON CONFLICT DO NOTHING;
                 ANALYZE {schema}.\"{table}\""
            ))
            .unwrap();
    }
}

/// The bounds of a slice in the middle, and whether the stage is cut at all.
fn slice_of(extent: Extent, stage: &Stage) -> (Option<&'static str>, Option<&'static str>) {
    match (extent, stage.name) {
        (Extent::Changes | Extent::Noted, "replies" | "embeds" | "flags" | "notifications")
        | (_, "spread") => (Some("1000"), Some("26000")),
        (Extent::Everything, "post-counts") => (Some("at://did:plc:a"), Some("at://did:plc:b")),
        (Extent::Everything, "profile-counts") => (Some("did:plc:a"), Some("did:plc:b")),
        (Extent::Changes | Extent::Noted, _) | (_, "cycles" | "odd-roots" | "quote-cids") => {
            (None, None)
        }
        // A block has the rows of some slices, with the rows that are pretended.
        (Extent::Everything, _) => (Some("(2000,0)"), Some("(2001,0)")),
    }
}

/// The statements of a stage without those that would make the planner see the real size.
fn statements_of(extent: Extent, stage: &Stage) -> String {
    let slice = slice_of(extent, stage);
    let sql = stage.statements(extent, slice, &Notifications::All);
    let lines = sql.lines().filter(|line| !line.starts_with("ANALYZE"));
    lines.collect::<Vec<_>>().join("\n")
}

fn check(session: &mut Planned, extent: Extent, what: &str) {
    let is_large = |table: &str| {
        let known = TABLES.iter().chain(WORK_TABLES);
        let mut names = known.map(|(name, _)| *name);
        let is_work = extent == Extent::Changes && table.starts_with("finalize_");
        names.any(|name| name == table) && !is_work
    };
    for stage in extent.stages() {
        if extent == Extent::Everything && slice_of(extent, stage) == (None, None) {
            // One pass over what it is about.
            continue;
        }
        let setting = match extent {
            Extent::Everything => "",
            Extent::Changes | Extent::Noted => "SET LOCAL enable_seqscan = off;",
        };
        let mut txn = session.client.transaction().unwrap();
        txn.batch_execute(&format!("{setting}{}", statements_of(extent, stage)))
            .unwrap();
        txn.rollback().unwrap();
        let found = session.whole_reads(&is_large);
        assert!(
            found.is_empty(),
            "{extent:?}, stage {}, {what}: {:#?}",
            stage.name,
            found
        );
    }
}

#[test]
fn a_slice_reads_no_table_as_a_whole() {
    let db = TestDb::migrated();
    let mut client = db.client();
    client
        .batch_execute(&format!(
            "CREATE SCHEMA skyfill; {}; {}; {}; {}",
            pg::search_path("bsky"),
            include_str!("../sql/functions.sql"),
            include_str!("../sql/tables.sql"),
            include_str!("../sql/derived.sql")
        ))
        .unwrap();
    for what in ["without statistics", "with statistics"] {
        if what == "with statistics" {
            sample(&mut client, "bsky", TABLES);
            sample(&mut client, "skyfill", WORK_TABLES);
            sample(&mut client, "skyfill", CHANGES);
            // What the planner learned stays, and no statement finds anything.
            let made = WORK_TABLES.iter().chain(CHANGES);
            let deletes: String = made
                .map(|(table, _)| format!("DELETE FROM skyfill.{table};"))
                .collect();
            client.batch_execute(&deletes).unwrap();
        }
        pretend(&mut client, "bsky", TABLES);
        pretend(&mut client, "skyfill", WORK_TABLES);
        pretend(&mut client, "skyfill", CHANGES);
        let mut session = Planned::connect(&db.url);
        session
            .client
            .batch_execute(&format!(
                "{}; SET work_mem = '64MB'",
                pg::search_path("bsky")
            ))
            .unwrap();
        check(&mut session, Extent::Everything, what);
        // What finalize keeps for changes is analyzed when everything was computed.
        if what == "with statistics" {
            check(&mut session, Extent::Changes, what);
        }
    }
}
