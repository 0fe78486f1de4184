//! Merging over tables that another indexer filled as events came: they end as after a fresh load,
//! but for the times at which that indexer saw the records.

use std::collections::BTreeMap;
use testbed::*;

/// What live indexing leaves: other times, another winner among duplicates, notifications that are
/// missing or of records that are gone, rows of accounts that nobody loads.
const LIVE: &str = r#"
    DROP SCHEMA skyfill CASCADE;
    SET search_path = bsky;
    UPDATE record SET "indexedAt" = '2026-10-31T00:00:00.000Z';
    DO $$ DECLARE t text; BEGIN
      FOR t IN SELECT table_name FROM information_schema.columns
        WHERE table_schema = 'bsky' AND column_name = 'indexedAt' AND table_name NOT IN ('actor', 'record')
          AND EXISTS (SELECT FROM information_schema.columns c WHERE c.table_schema = 'bsky' AND c.table_name = columns.table_name AND c.column_name = 'uri')
      LOOP EXECUTE format('UPDATE %I SET "indexedAt" = ''2026-10-31T00:00:00.000Z''', t); END LOOP; END $$;
    UPDATE feed_item SET "sortAt" = least("sortAt", '2026-10-31T00:00:00.000Z');
    UPDATE notification SET "sortAt" = CASE WHEN reason = 'starterpack-joined' THEN '2026-10-31T00:00:00.000Z'
      ELSE least("sortAt", '2026-10-31T00:00:00.000Z') END;
    UPDATE profile SET "createdAt" = '2026-10-30T00:00:00.000Z'
      WHERE uri IN (SELECT uri FROM record WHERE json::jsonb -> 'createdAt' IS NULL);
    -- The later of two follows has the row, and the notification.
    CREATE TEMPORARY TABLE swapped AS SELECT DISTINCT ON (d."duplicateOf") d.uri AS later, d.cid, f.uri AS first, f.cid AS first_cid
      FROM duplicate_record d JOIN follow f ON f.uri = d."duplicateOf" ORDER BY d."duplicateOf", d.uri;
    UPDATE follow f SET uri = s.later, cid = s.cid FROM swapped s WHERE f.uri = s.first;
    UPDATE notification n SET "recordUri" = s.later, "recordCid" = s.cid FROM swapped s WHERE n."recordUri" = s.first;
    DELETE FROM duplicate_record d USING swapped s WHERE d.uri = s.later;
    INSERT INTO duplicate_record SELECT first, first_cid, later, '2026-10-31T00:00:00.000Z' FROM swapped;
    -- A follow took the place of a deleted one, whose notification stayed.
    UPDATE notification SET "recordUri" = "recordUri" || 'gone' WHERE "recordUri" IN (
      SELECT f.uri FROM follow f WHERE f.uri NOT IN (SELECT later FROM swapped) ORDER BY f.uri LIMIT 3);
    -- Posts that are gone left rows behind.
    INSERT INTO feed_item (uri, cid, type, "postUri", "originatorDid", "sortAt")
      SELECT uri || 'gone', cid, 'post', uri || 'gone', creator, "indexedAt" FROM post ORDER BY uri LIMIT 3;
    INSERT INTO post_embed_external ("postUri", uri, title, description)
      SELECT uri || 'gone', 'https://example.com', 't', 'd' FROM post ORDER BY uri LIMIT 2;
    -- An account that is gone.
    INSERT INTO record (uri, cid, did, json, "indexedAt")
      SELECT replace(uri, did, 'did:plc:gone'), cid, 'did:plc:gone', json, "indexedAt" FROM record ORDER BY uri LIMIT 4;
    INSERT INTO "like" (uri, cid, creator, subject, "subjectCid", "createdAt", "indexedAt")
      SELECT 'at://did:plc:gone/app.bsky.feed.like/a', cid, 'did:plc:gone', 'at://did:plc:gone/app.bsky.feed.post/b', "subjectCid", "createdAt", "indexedAt" FROM "like" LIMIT 1;
"#;

/// Rows without the times at which records were seen, and without those of the account that is
/// gone.
fn without_times(dump: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let rows_of = |rows: Vec<String>| {
        let ours = rows.into_iter().filter(|row| !row.contains("did:plc:gone"));
        canonical(ours.map(|row| {
            let mut row: serde_json::Value = serde_json::from_str(&row).unwrap();
            let fields = row.as_object_mut().unwrap();
            fields.remove("indexedAt");
            fields.remove("sortAt");
            fields.remove("sortedAt");
            row.to_string()
        }))
    };
    dump.into_iter()
        .map(|(table, rows)| (table, rows_of(rows)))
        .collect()
}

/// A profile without `createdAt` keeps the time that the other indexer gave it.
fn without_profile_times(mut dump: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    if let Some(rows) = dump.get_mut("profile") {
        *rows = canonical(rows.iter().map(|row| {
            let mut row: serde_json::Value = serde_json::from_str(row).unwrap();
            row.as_object_mut().unwrap().remove("createdAt");
            row.to_string()
        }));
    }
    dump
}

#[test]
fn a_merge_over_live_tables_ends_as_a_fresh_load() {
    let net = Net::of_tangle(&simnet::Tangle::knotted(98, 8, 900));
    let (fresh, live, dir) = (TestDb::migrated(), TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    for db in [&fresh, &live] {
        run_well(run_load(&db.url).arg(&file));
    }
    let count = |db: &TestDb, sql: &str| -> i64 { db.client().query_one(sql, &[]).unwrap().get(0) };
    live.client().batch_execute(LIVE).unwrap();
    let kept = "SELECT count(*) FROM bsky.record WHERE \"indexedAt\" = '2026-10-31T00:00:00.000Z'";
    let before = count(&live, kept);
    let output = run_well(run_load(&live.url).arg(&file));
    // Before the summary the account that is gone is named.
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let summary: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!(summary["mode"], "merge");
    assert_eq!(summary["differences"], 0, "{}", told(&output));
    let difference = difference(
        &without_profile_times(without_times(live.dump())),
        &without_profile_times(without_times(fresh.dump())),
    );
    assert_eq!(difference, None);
    // What followed from its record was left alone.
    let after = count(&live, kept);
    assert!(
        after * 10 > before * 8,
        "{after} of {before} records kept their times"
    );
    // The account that is gone is named, apart.
    let output = skyfill()
        .args(["verify", "--all"])
        .env("BSKY_DB_POSTGRES_URL", &live.url)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        told(&output).contains("5 rows of 1 account that skyfill never loaded"),
        "{}",
        told(&output)
    );
    let dump = live.dump();
    assert_eq!(
        dump["record"]
            .iter()
            .filter(|row| row.contains("did:plc:gone"))
            .count(),
        4
    );
    // A second time nothing changes.
    run_well(run_load(&live.url).arg(&file));
    assert_eq!(testbed::difference(&live.dump(), &dump), None);
}
