//! `skyfill export`: files and tables agree, in counts, hashes and every value; kills leave no torn
//! file and no record twice; any lexicon passes through an archive.

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use testbed::*;

/// A row of a Parquet file, by column.
pub(crate) type Row = BTreeMap<String, Option<String>>;

/// The repos of a network, loaded by `run`, and an archive of their CARs.
struct Scene {
    db: TestDb,
    dir: tempfile::TempDir,
    cars: PathBuf,
}

fn scene(seed: u64) -> Scene {
    let tangle = simnet::Tangle::new(seed, 9, 900);
    let net = Net::of_tangle(&tangle);
    let (db, dir) = (TestDb::migrated(), folder());
    let cars = dir.path().join("cars");
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    run_well(run_load(&db.url).arg(file).arg("--keep-cars").arg(&cars));
    Scene { db, dir, cars }
}

/// An export of the database to `to`.
fn export(db: &TestDb, to: &Path, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.arg("export").arg(to).args(["--json", "--now", NOW]);
    command.args(args).env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// An export of an archive.
fn export_cars(cars: &Path, to: &Path, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.arg("export").arg(to).args(["--json", "--now", NOW]);
    command.arg("--from-cars").arg(cars).args(args);
    command
}

/// The files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all.sort();
    all
}

pub(crate) fn files_ending(folder: &Path, end: &str) -> Vec<PathBuf> {
    let all = files(folder).into_iter();
    all.filter(|path| path.to_str().unwrap().ends_with(end))
        .collect()
}

/// A value as text, as the tables have it.
pub(crate) fn text(field: &Field) -> Option<String> {
    match field {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        Field::Long(number) => Some(number.to_string()),
        Field::TimestampMillis(millis) => Some(rows::datetime::print(*millis)),
        other => panic!("{other:?}"),
    }
}

/// All rows of all Parquet files, by collection, as the library reads them.
fn parquet_rows(folder: &Path) -> BTreeMap<String, Vec<Row>> {
    let mut all: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for path in files_ending(folder, ".parquet") {
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let folder_of = |at: usize| {
            let folder = path.ancestors().nth(at).unwrap().file_name().unwrap();
            folder.to_str().unwrap().to_owned()
        };
        let (month, collection) = (folder_of(1), folder_of(2));
        let collection = collection.strip_prefix("collection=").unwrap().to_owned();
        for row in reader.get_row_iter(None).unwrap() {
            let columns = row.unwrap().into_columns().into_iter();
            let row: Row = columns.map(|(name, field)| (name, text(&field))).collect();
            let sort_at = row["sortAt"].as_deref().unwrap();
            let expected = if sort_at < "2000" {
                "before-2000"
            } else {
                &sort_at[..7]
            };
            assert_eq!(month, format!("month={expected}"), "{row:?}");
            all.entry(collection.clone()).or_default().push(row);
        }
    }
    all
}

/// Counts and hashes by collection, as PostgreSQL computes them from the table `record`.
fn tallies_of_tables(db: &TestDb) -> BTreeMap<String, (u64, String)> {
    let sql = "SELECT split_part(uri, '/', 4), count(*)::bigint,
                 (mod(mod(sum(('x' || left(encode(sha256(convert_to(uri || ' ' || cid, 'UTF8')), 'hex'), 16))::bit(64)::bigint::numeric),
                   18446744073709551616) + 18446744073709551616, 18446744073709551616))::text
               FROM bsky.record GROUP BY 1";
    let rows = db.client().query(sql, &[]).unwrap();
    let tally = |row: &postgres::Row| {
        let hash: u64 = row.get::<_, String>(2).parse().unwrap();
        let count = u64::try_from(row.get::<_, i64>(1)).unwrap();
        (row.get(0), (count, format!("{hash:016x}")))
    };
    rows.iter().map(tally).collect()
}

/// The same of a manifest.
fn tallies_of(manifest: &Value) -> BTreeMap<String, (u64, String)> {
    let collections = manifest["collections"].as_object().unwrap();
    let tally = |(name, tally): (&String, &Value)| {
        let hash = tally["hash"].as_str().unwrap().to_owned();
        (name.clone(), (tally["records"].as_u64().unwrap(), hash))
    };
    collections.iter().map(tally).collect()
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

fn is_of(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}", told(output));
}

#[test]
fn parquet_has_what_the_tables_have() {
    let scene = scene(61);
    let to = scene.dir.path().join("out");
    let output = run_well(&mut export(&scene.db, &to, &[]));
    let tables = tallies_of_tables(&scene.db);
    assert!(tables.len() > 10, "{tables:?}");
    assert_eq!(tallies_of(&summary(&output)), tables);
    assert_eq!(tallies_of(&manifest(&to)), tables);
    let exported = parquet_rows(&to);
    let mut client = scene.db.client();
    let records = "SELECT r.uri, r.cid, r.did, r.json, r.\"indexedAt\", p.rev
                   FROM bsky.record r JOIN skyfill.repo p ON p.did = r.did";
    let records = client.query(records, &[]).unwrap();
    let by_uri: BTreeMap<String, &Row> = exported
        .values()
        .flatten()
        .map(|row| (row["uri"].clone().unwrap(), row))
        .collect();
    assert_eq!(by_uri.len(), records.len());
    for record in &records {
        let row = by_uri[record.get::<_, &str>(0)];
        for (at, column) in [
            (1, "cid"),
            (2, "did"),
            (3, "record"),
            (4, "indexedAt"),
            (5, "rev"),
        ] {
            assert_eq!(row[column].as_deref(), Some(record.get(at)), "{row:?}");
        }
        assert_eq!(row["refused"], None, "{row:?}");
    }
    // The typed columns are those of each collection's own table.
    let mut compared = 0;
    for table in appview::table::ALL {
        let is_own = table.columns.iter().any(|c| c.name == "creator");
        if !is_own {
            continue;
        }
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|c| format!("\"{}\"::text", c.name))
            .collect();
        let sql = format!("SELECT {} FROM bsky.\"{}\"", columns.join(", "), table.name);
        for stored in client.query(&sql, &[]).unwrap() {
            let row = by_uri[stored.get::<_, &str>(0)];
            for (at, column) in table.columns.iter().enumerate() {
                let stored: Option<String> = stored.get(at);
                let name = if column.name == "creator" {
                    "did"
                } else {
                    column.name
                };
                let found = row[name].clone();
                let same = match column.kind {
                    // Some texts of the tables are times in another spelling.
                    appview::table::Kind::Text if name.ends_with("At") => {
                        let time = stored.as_deref().and_then(rows::datetime::parse);
                        found == time.map(rows::datetime::print)
                    }
                    appview::table::Kind::Text => found == stored,
                    appview::table::Kind::Jsonb => {
                        let value = |text: Option<String>| -> Option<Value> {
                            text.map(|text| serde_json::from_str(&text).unwrap())
                        };
                        value(found.clone()) == value(stored.clone())
                    }
                };
                assert!(same, "{}.{name}: {found:?}, {stored:?}", table.name);
                compared += 1;
            }
        }
    }
    assert!(compared > 3000, "{compared}");
    // Once more changes nothing; with other arguments it is refused.
    let before = manifest(&to);
    run_well(&mut export(&scene.db, &to, &[]));
    assert_eq!(manifest(&to), before);
    let output = export(&scene.db, &to, &["--format", "jsonl"])
        .output()
        .unwrap();
    is_of(&output, 2);
    assert!(
        told(&output).contains("another export"),
        "{}",
        told(&output)
    );
}

#[test]
fn lines_are_those_of_the_scripts() {
    let scene = scene(62);
    let to = scene.dir.path().join("out");
    let args = [
        "--format",
        "jsonl",
        "--collections",
        "likes,app.bsky.graph.*",
    ];
    run_well(&mut export(&scene.db, &to, &args));
    let mut tables = tallies_of_tables(&scene.db);
    tables.retain(|name, _| name == "app.bsky.feed.like" || name.starts_with("app.bsky.graph."));
    assert_eq!(tallies_of(&manifest(&to)), tables);
    let mut uris = BTreeSet::new();
    for path in files_ending(&to, ".jsonl.zst") {
        let text = zstd::decode_all(File::open(&path).unwrap()).unwrap();
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let message = handoff::line::Message::parse(line).unwrap();
            let record = message.record().unwrap();
            let folder = format!("collection={}/", record.collection.nsid());
            assert!(
                path.to_str().unwrap().contains(&folder),
                "{}",
                path.display()
            );
            uris.insert(record.uri.to_owned());
        }
    }
    let count: u64 = tables.values().map(|(count, _)| count).sum();
    assert_eq!(uris.len() as u64, count);
}

#[test]
fn a_kill_leaves_no_torn_file_and_no_record_twice() {
    let scene = scene(63);
    let whole = scene.dir.path().join("whole");
    let parts = ["--part-records", "300", "--threads", "2"];
    run_well(&mut export(&scene.db, &whole, &parts));
    let expected = parquet_rows(&whole);
    assert!(manifest(&whole)["parts"].as_array().unwrap().len() > 2);
    for place in ["file=9", "part=2", "part-done=1"] {
        let to = scene.dir.path().join(place);
        let mut killed = export(&scene.db, &to, &parts);
        let output = killed.env("SKYFILL_FAILPOINT", place).output().unwrap();
        assert_eq!(output.status.code(), None, "{place}: {}", told(&output));
        assert!(!to.join("manifest.json").exists());
        // What has its name is whole.
        parquet_rows(&to);
        run_well(&mut export(&scene.db, &to, &parts));
        let sorted = |rows: &BTreeMap<String, Vec<Row>>| {
            let mut rows = rows.clone();
            for rows in rows.values_mut() {
                rows.sort();
            }
            rows
        };
        assert!(sorted(&parquet_rows(&to)) == sorted(&expected), "{place}");
        assert_eq!(
            manifest(&to)["collections"],
            manifest(&whole)["collections"]
        );
        assert_eq!(files_ending(&to, ".tmp"), Vec::<PathBuf>::new());
    }
    // A stop is no kill: it says how to continue.
    let to = scene.dir.path().join("stopped");
    let mut stopped = export(&scene.db, &to, &parts);
    let output = stopped.env("SKYFILL_FAILPOINT", "file=9,stop").output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    let text = told(&output);
    assert!(text.contains("continue with: skyfill export "), "{text}");
    run_well(&mut export(&scene.db, &to, &parts));
    let collections = |folder: &Path| manifest(folder)["collections"].clone();
    assert_eq!(collections(&to), collections(&whole));
}

#[test]
fn what_the_ledger_counted_and_the_table_lacks_is_named() {
    let scene = scene(64);
    let lost =
        "DELETE FROM bsky.record WHERE uri = (SELECT min(uri) FROM bsky.\"like\") RETURNING did";
    let did: String = scene.db.client().query_one(lost, &[]).unwrap().get(0);
    let to = scene.dir.path().join("out");
    let output = export(&scene.db, &to, &[]).output().unwrap();
    is_of(&output, 1);
    let said = told(&output);
    assert!(said.contains(&did), "{said}");
    assert!(
        said.contains("app.bsky.feed.like: 1 in like that record lacks"),
        "{said}"
    );
    let wrong = &manifest(&to)["mismatches"];
    assert_eq!(wrong.as_array().unwrap().len(), 1, "{wrong}");
    assert_eq!(
        wrong[0]["ledger"].as_u64().unwrap(),
        wrong[0]["found"].as_u64().unwrap() + 1
    );
}

#[test]
fn an_archive_has_what_the_tables_have_and_more() {
    let scene = scene(65);
    let to = scene.dir.path().join("out");
    run_well(&mut export_cars(&scene.cars, &to, &[]));
    let tables = tallies_of_tables(&scene.db);
    let exported = parquet_rows(&to);
    // Each record that the tables have, with the same values but for what only a load knows.
    let direct = scene.dir.path().join("direct");
    run_well(&mut export(&scene.db, &direct, &[]));
    for (collection, rows) in parquet_rows(&direct) {
        let archived: BTreeMap<&str, &Row> = exported[&collection]
            .iter()
            .map(|row| (row["uri"].as_deref().unwrap(), row))
            .collect();
        for row in &rows {
            assert_eq!(
                archived[row["uri"].as_deref().unwrap()],
                row,
                "{collection}"
            );
        }
        // The others are those that an AppView refuses.
        let accepted = archived.values().filter(|row| row["refused"].is_none());
        assert_eq!(
            accepted.count() as u64,
            tables[&collection].0,
            "{collection}"
        );
    }
    let manifest = manifest(&to);
    let refused = |name: &str| manifest["collections"][name]["refused"].as_u64().unwrap();
    assert!(refused("app.bsky.feed.post") > 0, "{manifest:#}");
    let other = |name: &&String| !tables.contains_key(*name) && name.as_str() != "others";
    assert!(
        exported.keys().any(|name| other(&name)),
        "{:?}",
        exported.keys()
    );
}

#[test]
fn any_lexicon_passes_through_and_damage_is_named() {
    let dir = folder();
    let cars = dir.path().join("cars");
    fs::create_dir(&cars).unwrap();
    let rev = atrepo::syntax::tid(1_700_000_000_000_000, 0);
    let repo = |did: &str, records: &[(&str, &str)]| {
        let records = records
            .iter()
            .map(|(key, json)| ((*key).to_owned(), rows::from_json(json).unwrap()));
        simnet::build_repo(did, &rev, records.collect())
    };
    let thing = r#"{"n":1,"deep":{"list":[1,"two",null,{"$bytes":"AQI"}]},"$type":"com.example.thing","createdAt":"2024-05-06T07:08:09.123Z"}"#;
    let post = r#"{"text":1,"$type":"app.bsky.feed.post","createdAt":"2024-05-06T07:08:09.123Z"}"#;
    let good = repo(
        "did:plc:good",
        &[
            ("com.example.thing/a", thing),
            ("com.example.deep.thing/3jzfcijpj2z2a", r#"{"x":"y"}"#),
            ("org.other.thing/a", r#"{"x":"y"}"#),
            ("app.bsky.feed.post/3jzfcijpj2z2a", post),
        ],
    );
    fs::write(cars.join("good.car"), good).unwrap();
    let mut damaged = repo("did:plc:bad", &[("com.example.thing/a", r#"{"x":"z"}"#)]);
    let at = damaged.windows(1).rposition(|byte| byte == b"z").unwrap();
    damaged[at] = b'y';
    fs::write(cars.join("bad.car"), damaged).unwrap();
    let to = dir.path().join("out");
    let args = ["--collections", "com.example.*,app.bsky.feed.post"];
    let output = export_cars(&cars, &to, &args).output().unwrap();
    is_of(&output, 1);
    assert!(told(&output).contains("did:plc:bad: "), "{}", told(&output));
    assert_eq!(manifest(&to)["damaged"][0]["did"], "did:plc:bad");
    let rows = parquet_rows(&to);
    let names: Vec<&str> = rows.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "app.bsky.feed.post",
            "com.example.deep.thing",
            "com.example.thing"
        ]
    );
    let row = &rows["com.example.thing"][0];
    let record: Value = serde_json::from_str(row["record"].as_deref().unwrap()).unwrap();
    assert_eq!(record, serde_json::from_str::<Value>(thing).unwrap());
    assert_eq!(
        row["createdAt"].as_deref(),
        Some("2024-05-06T07:08:09.123Z")
    );
    assert_eq!(row["rev"].as_deref(), Some(rev.as_str()));
    // Without a time of its own, a record has that of its key.
    let deep = &rows["com.example.deep.thing"][0];
    let micros = atrepo::syntax::tid_micros("3jzfcijpj2z2a").unwrap();
    let millis = i64::try_from(micros / 1000).unwrap();
    assert_eq!(deep["sortAt"], Some(rows::datetime::print(millis)));
    // What an AppView refuses is there, with the reason.
    let post = &rows["app.bsky.feed.post"][0];
    assert!(
        post["refused"].as_deref().unwrap().contains("text"),
        "{post:?}"
    );
    assert_eq!(post["text"], None);
    // As lines, too.
    let lines = dir.path().join("lines");
    let args = ["--collections", "com.example.thing", "--format", "jsonl"];
    is_of(&export_cars(&cars, &lines, &args).output().unwrap(), 1);
    let file = files_ending(&lines, ".jsonl.zst").remove(0);
    let line = zstd::decode_all(File::open(file).unwrap()).unwrap();
    let line: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(line["data"]["obj"], record);
    assert_eq!(line["data"]["uri"], "at://did:plc:good/com.example.thing/a");
}

/// The faults that `archive verify` names, by the account.
fn faults(cars: &Path, code: i32) -> BTreeMap<String, String> {
    let mut command = skyfill();
    let output = command
        .args(["archive", "verify"])
        .arg(cars)
        .output()
        .unwrap();
    is_of(&output, code);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let findings = text
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).unwrap() });
    let named = findings.map(|finding| {
        let text = |name: &str| finding[name].as_str().unwrap().to_owned();
        (text("did"), text("fault"))
    });
    named.collect()
}

#[test]
fn an_archive_is_proved_by_itself() {
    let tangle = simnet::Tangle::new(66, 9, 300);
    let dir = folder();
    let cars = dir.path().join("cars");
    let place = archive::Place::Folder(cars.clone());
    let writer = archive::ArchiveWriter::open(&place, &archive::Access::default(), 0).unwrap();
    let writer = std::sync::Mutex::new(writer);
    let dids: Vec<String> = tangle.dids().map(str::to_owned).collect();
    for did in &dids {
        let car = tangle.car(did);
        let rev = atrepo::Repo::open(&car, did).unwrap().commit().rev.clone();
        let mut writer = writer.lock().unwrap();
        writer.add(did, "https://pds.example", &rev, &car).unwrap();
    }
    archive::ArchiveWriter::sync(&writer).unwrap();
    drop(writer);
    assert_eq!(faults(&cars, 0), BTreeMap::new());
    let index = fs::read_to_string(cars.join("index.jsonl")).unwrap();
    let lines: Vec<Value> = index
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let file = cars.join("000000.cars.zst");
    let bytes = fs::read(&file).unwrap();
    let end = |line: &Value| line["offset"].as_u64().unwrap() + line["bytes"].as_u64().unwrap();
    let one = |did: &str, fault: &str| BTreeMap::from([(did.to_owned(), fault.to_owned())]);
    // A byte of the third CAR is another one.
    let mut other = bytes.clone();
    let middle = usize::try_from(end(&lines[2]) - lines[2]["bytes"].as_u64().unwrap() / 2).unwrap();
    other[middle] ^= 1;
    fs::write(&file, &other).unwrap();
    assert_eq!(
        faults(&cars, 1),
        one(lines[2]["did"].as_str().unwrap(), "altered")
    );
    // The file ends before its last CAR does.
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let last = lines.last().unwrap()["did"].as_str().unwrap();
    assert_eq!(faults(&cars, 1), one(last, "torn"));
    fs::write(&file, &bytes).unwrap();
    // The index says another thing of a CAR than it is.
    for (name, value) in [
        ("rev", "3jzfcijpj2z2a".to_owned()),
        ("root", lines[0]["root"].as_str().unwrap().to_owned()),
        ("sha256", "00".repeat(32)),
    ] {
        let mut changed = lines.clone();
        changed[1][name] = value.into();
        let text: String = changed.iter().map(|line| format!("{line}\n")).collect();
        fs::write(cars.join("index.jsonl"), text).unwrap();
        let expected = one(lines[1]["did"].as_str().unwrap(), "altered");
        assert_eq!(faults(&cars, 1), expected, "{name}");
    }
    // Two lines name one CAR. The second is left out, or a hundred thousand of them would have it
    // read as often.
    let mut claimed = lines[0].clone();
    claimed["did"] = "did:plc:claims".into();
    let mut more = lines.clone();
    more.insert(1, claimed);
    let text: String = more.iter().map(|line| format!("{line}\n")).collect();
    fs::write(cars.join("index.jsonl"), text).unwrap();
    let options = archive::OpenOptions {
        access: archive::Access::default(),
        spool: fetch::Spool::open(dir.path(), None).unwrap(),
        memory: 256 << 20,
    };
    let opened = archive::Archive::open(&place, &options).unwrap();
    assert_eq!(opened.accounts(), dids.len() as u64);
    let notes: Vec<String> = opened.notes().collect();
    assert!(
        notes.len() == 1 && notes[0].contains("did:plc:claims"),
        "{notes:?}"
    );
    // A line is cut off; those of earlier versions have neither root nor hash.
    let mut older = lines.clone();
    for line in &mut older {
        line.as_object_mut()
            .unwrap()
            .retain(|name, _| name != "root" && name != "sha256");
    }
    let mut text: String = older.iter().map(|line| format!("{line}\n")).collect();
    text.truncate(text.len() - 20);
    fs::write(cars.join("index.jsonl"), text).unwrap();
    assert_eq!(faults(&cars, 1), one("", "bad line"));
    fs::write(cars.join("index.jsonl"), index).unwrap();
    fs::remove_file(&file).unwrap();
    let missing = faults(&cars, 1);
    assert_eq!(missing.len(), dids.len());
    assert!(
        missing.values().all(|fault| fault == "missing"),
        "{missing:?}"
    );
}
