//! Archives in an object store: written by `run`, killed and cut off on the way, and loaded,
//! exported and proved from there; what is missing, torn or altered is named.

use archive::{Access, ArchiveWriter, Place};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testbed::*;

fn scene(seed: u64) -> (simnet::Tangle, Net) {
    let tangle = simnet::Tangle::new(seed, 9, 900);
    let net = Net::of_tangle(&tangle);
    (tangle, net)
}

/// A run of all repos of a network that keeps them in the store.
fn keep(db: &TestDb, net: &Net, dir: &Path, store: &ObjectStore, prefix: &str) -> Command {
    let file = did_file(dir, &net.server.url(), net.dids.iter().map(String::as_str));
    let mut command = run_load(&db.url);
    command
        .arg(file)
        .args(["--keep-cars", &store.place(prefix)]);
    store.allow(&mut command);
    command
}

/// A run of all repos of an archive in the store.
fn load(db: &TestDb, store: &ObjectStore, prefix: &str) -> Command {
    let mut command = run_load(&db.url);
    command.args(["--from-cars", &store.place(prefix)]);
    store.allow(&mut command);
    command
}

/// Loads from an archive, and from hosts what is missing or newer there: the tables are those of a
/// load from the hosts alone. What it said, and how many requests it took.
fn load_from_both(net: &Net, dir: &Path, cars: &Path) -> (Output, u64) {
    let reference = TestDb::migrated();
    let file = did_file(dir, &net.server.url(), net.dids.iter().map(String::as_str));
    run_well(run_load(&reference.url).arg(&file));
    let before = net.server.requests();
    let db = TestDb::migrated();
    let mut command = run_load(&db.url);
    command.arg(&file).arg("--fetch-missing");
    let output = run_well(command.arg("--from-cars").arg(cars));
    assert_same(&db, &reference, "from two sources");
    (output, net.server.requests() - before)
}

fn assert_same(ours: &TestDb, theirs: &TestDb, what: &str) {
    if let Some(difference) = difference(&ours.dump(), &theirs.dump()) {
        panic!("{what}: {difference}");
    }
}

fn verify(store: &ObjectStore, prefix: &str) -> Output {
    let mut command = skyfill();
    command.args(["archive", "verify", "--json", &store.place(prefix)]);
    store.allow(&mut command).output().unwrap()
}

/// The lines on stdout.
fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// CARs that `archive verify` finds to be good; it must find nothing else.
fn good(store: &ObjectStore, prefix: &str) -> u64 {
    let output = verify(store, prefix);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    lines(&output)[0]["good"].as_u64().unwrap()
}

/// The faults that it names, by the account.
fn faults(store: &ObjectStore, prefix: &str) -> BTreeMap<String, String> {
    let output = verify(store, prefix);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let text = |finding: &Value, name: &str| finding[name].as_str().map(str::to_owned);
    lines(&output)
        .iter()
        .filter_map(|finding| Some((text(finding, "did")?, text(finding, "fault")?)))
        .collect()
}

/// Writes repos to the store, a segment for each two of them.
fn write(tangle: &simnet::Tangle, store: &ObjectStore, prefix: &str) {
    let mut command = Command::new("none");
    let words: Vec<String> = store
        .allow(&mut command)
        .get_args()
        .map(|word| word.to_str().unwrap().to_owned())
        .collect();
    let options = words.iter().filter(|word| word.contains('='));
    let variable = |name: &str| (name.to_owned(), "test".to_owned());
    let access = Access {
        environment: ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]
            .map(variable)
            .into(),
        options: options
            .map(|option| Access::option(option).unwrap())
            .collect(),
    };
    let place: Place = store.place(prefix).parse().unwrap();
    let writer = Mutex::new(ArchiveWriter::open(&place, &access, 1 << 30).unwrap());
    for (number, did) in tangle.dids().enumerate() {
        let car = tangle.car(did);
        let rev = atrepo::Repo::open(&car, did).unwrap().commit().rev.clone();
        let added = writer
            .lock()
            .unwrap()
            .add(did, "https://pds.example", &rev, &car);
        added.unwrap();
        if number % 2 == 1 {
            ArchiveWriter::sync(&writer).unwrap();
        }
    }
    ArchiveWriter::sync(&writer).unwrap();
}

#[test]
fn an_archive_there_is_as_good_as_one_in_a_folder() {
    let (tangle, net) = scene(81);
    let (store, dir) = (ObjectStore::start(), folder());
    let first = TestDb::migrated();
    run_well(&mut keep(&first, &net, dir.path(), &store, "a/cars"));
    assert_eq!(good(&store, "a/cars"), net.dids.len() as u64);
    // Read from there, without a request to a host.
    let requests = net.server.requests();
    let gets = store.requests("GET", ".cars.zst");
    let second = TestDb::migrated();
    run_well(&mut load(&second, &store, "a/cars"));
    assert_same(&second, &first, "from the store");
    assert_eq!(net.server.requests(), requests);
    // A segment is read once, not once for each of its repos.
    let objects = store.objects("a/cars");
    let segments = objects.keys().filter(|name| name.ends_with(".cars.zst"));
    let segments = segments.count();
    assert_eq!(store.requests("GET", ".cars.zst") - gets, segments * 2);
    // Copied to a folder by any tool, it is the same.
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for (name, content) in &objects {
        fs::write(copy.join(name.rsplit('/').next().unwrap()), content).unwrap();
    }
    let third = TestDb::migrated();
    run_well(run_load(&third.url).arg("--from-cars").arg(&copy));
    assert_same(&third, &first, "from a copy");
    // So is an export.
    let manifest = |name: &str, from: &str| -> Value {
        let mut command = skyfill();
        command.arg("export").arg(dir.path().join(name));
        command.args(["--now", NOW, "--from-cars", from]);
        run_well(store.allow(&mut command));
        let text = fs::read(dir.path().join(name).join("manifest.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()["collections"].clone()
    };
    let place = store.place("a/cars");
    assert_eq!(manifest("x", &place), manifest("y", copy.to_str().unwrap()));
    // Plain CARs of somebody else, under any names.
    for (number, did) in net.dids.iter().enumerate() {
        store.put(&format!("plain/{number}.car"), &tangle.car(did));
    }
    let fourth = TestDb::migrated();
    run_well(&mut load(&fourth, &store, "plain"));
    assert_same(&fourth, &first, "from plain CARs");
}

#[test]
fn what_is_missing_torn_or_altered_is_named() {
    let (tangle, net) = scene(82);
    let store = ObjectStore::start();
    write(&tangle, &store, "b");
    assert_eq!(good(&store, "b"), net.dids.len() as u64);
    let objects = store.objects("b");
    let of_kind = |end: &str| -> Vec<(&String, &Vec<u8>)> {
        let all = objects.iter();
        all.filter(|(name, _)| name.ends_with(end)).collect()
    };
    let (segments, indexes) = (of_kind(".cars.zst"), of_kind(".index.zst"));
    assert_eq!(segments.len(), net.dids.len().div_ceil(2));
    let dids = |at: usize| -> Vec<String> {
        let index = zstd::decode_all(indexes[at].1.as_slice()).unwrap();
        let text = String::from_utf8(index).unwrap();
        let lines = text.lines();
        lines
            .map(|line| -> Value { serde_json::from_str(line).unwrap() })
            .map(|line| line["did"].as_str().unwrap().to_owned())
            .collect()
    };
    // Altered: a byte of the first CAR. Torn: the last CAR of the second segment. Missing: the
    // third segment. Its index is no index: the fourth.
    let mut altered = segments[0].1.clone();
    altered[40] ^= 1;
    store.put(segments[0].0, &altered);
    store.put(segments[1].0, &segments[1].1[..segments[1].1.len() - 1]);
    store.delete(segments[2].0);
    store.put(indexes[3].0, b"not what was written");
    let found = faults(&store, "b");
    let expected = BTreeMap::from([
        (dids(0)[0].clone(), "altered".to_owned()),
        (dids(1)[1].clone(), "torn".to_owned()),
        (dids(2)[0].clone(), "missing".to_owned()),
        (dids(2)[1].clone(), "missing".to_owned()),
        (String::new(), "bad line".to_owned()),
    ]);
    assert_eq!(found, expected);
    // Each costs its own repos.
    let db = TestDb::migrated();
    let output = load(&db, &store, "b").output().unwrap();
    let said = told(&output);
    assert_eq!(summary(&output)["repos"]["loaded"], net.dids.len() - 6);
    assert_eq!(summary(&output)["differences"], 0);
    for name in [segments[1].0, segments[2].0, indexes[3].0] {
        assert!(said.contains(name.as_str()), "{name}: {said}");
    }
    let failed = "SELECT did FROM skyfill.repo WHERE state = 'failed'";
    let failed: String = db.client().query_one(failed, &[]).unwrap().get(0);
    assert_eq!(failed, dids(0)[0]);
}

/// Somebody else wrote what decompresses to far more than it has, or takes far more memory.
#[test]
fn what_swells_is_refused_by_name() {
    let (tangle, net) = scene(87);
    let store = ObjectStore::start();
    write(&tangle, &store, "g");
    let objects = store.objects("g");
    let of_kind = |end: &str| -> Vec<&String> {
        let names = objects.keys();
        names.filter(|name| name.ends_with(end)).collect()
    };
    let (segments, indexes) = (of_kind(".cars.zst"), of_kind(".index.zst"));
    let lines_of = |at: usize| -> Vec<Value> {
        let text = zstd::decode_all(objects[indexes[at]].as_slice()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let put_index = |at: usize, lines: &[Value]| {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let index = zstd::encode_all(text.as_bytes(), 3).unwrap();
        store.put(indexes[at], &index);
    };
    let mut random = simnet::Random::new(87);
    let mut noise = |bytes: usize| -> Vec<u8> {
        let eights = (0..bytes / 8).flat_map(|_| random.below(u64::MAX).to_le_bytes());
        eights.collect()
    };
    // The first index has far more lines than bytes.
    let many = vec![b'\n'; 64 << 20];
    store.put(indexes[0], &zstd::encode_all(many.as_slice(), 3).unwrap());
    // The second one says that a CAR has more than a hundred times the bytes of its frame.
    let mut second = lines_of(1);
    let bytes = second[0]["bytes"].as_u64().unwrap();
    second[0]["car"] = (bytes * 100 + (2 << 20)).into();
    put_index(1, &second);
    // The third segment needs a window of 128 MiB.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&noise(1 << 20)).unwrap();
    let wide = encoder.finish().unwrap();
    store.put(segments[2], &wide);
    let mut third = lines_of(2);
    third.truncate(1);
    third[0]["bytes"] = wide.len().into();
    third[0]["car"] = (1 << 20).into();
    put_index(2, &third);
    // The fourth index is larger than any that is written.
    store.put(indexes[3], &noise(10 << 20));
    let refused = [
        (indexes[0], "bad line", "more than 100 times as many"),
        (segments[1], "altered", "more than 100 times as many"),
        (segments[2], "altered", "window is larger than 8 MiB"),
        (indexes[3], "bad line", "9437184 at most"),
    ];
    let output = verify(&store, "g");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let findings = lines(&output);
    for (name, fault, why) in refused {
        let file = name.rsplit('/').next().unwrap();
        let finding = findings.iter().find(|finding| finding["file"] == file);
        let finding = finding.unwrap_or_else(|| panic!("{name}: {}", told(&output)));
        assert_eq!(finding["fault"], fault, "{finding}");
        assert!(
            finding["why"].as_str().unwrap().contains(why),
            "{why}: {finding}"
        );
    }
    // Each costs its own repos, and is named with what was exceeded.
    let db = TestDb::migrated();
    let output = load(&db, &store, "g").output().unwrap();
    assert_eq!(summary(&output)["repos"]["loaded"], net.dids.len() - 7);
    let errors = "SELECT error FROM skyfill.repo WHERE state = 'failed'";
    let errors = db.client().query(errors, &[]).unwrap();
    let errors: String = errors.iter().map(|row| row.get::<_, String>(0)).collect();
    let said = told(&output) + &errors;
    for (name, _, why) in refused {
        assert!(said.contains(name.as_str()), "{name}: {said}");
        assert!(said.contains(why), "{why}: {said}");
    }
}

/// Repos that the ledger has as loaded.
fn loaded(db: &TestDb) -> Vec<String> {
    let sql = "SELECT did FROM skyfill.repo WHERE state = 'loaded'";
    let rows = db.client().query(sql, &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// The accounts whose repos are in the archive.
fn kept(store: &ObjectStore, prefix: &str) -> Vec<String> {
    let objects = store.objects(prefix);
    let indexes = objects
        .iter()
        .filter(|(name, _)| name.ends_with(".index.zst"));
    let mut dids = Vec::new();
    for (_, index) in indexes {
        let text = String::from_utf8(zstd::decode_all(index.as_slice()).unwrap()).unwrap();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            dids.push(line["did"].as_str().unwrap().to_owned());
        }
    }
    dids
}

#[test]
fn what_is_loaded_is_kept_whatever_ends() {
    let (_, net) = scene(83);
    let (store, dir) = (ObjectStore::start(), folder());
    let db = TestDb::migrated();
    // Killed right after and right before a commit.
    for place in ["committed=1", "commit=1"] {
        let mut command = keep(&db, &net, dir.path(), &store, "c");
        command.args(["--memory", "128MiB", "--concurrency", "1"]);
        let output = command.env("SKYFILL_FAILPOINT", place).output().unwrap();
        assert_eq!(output.status.code(), None, "{place}: {}", told(&output));
        let kept = kept(&store, "c");
        for did in loaded(&db) {
            assert!(kept.contains(&did), "{place}: {did}");
        }
    }
    // The store goes away for good while a run is on: it ends, and says so.
    let away = store.requests("PUT", "");
    let mut command = keep(&db, &net, dir.path(), &store, "c");
    command.args(["--store-option", "retry_timeout=1"]);
    let mut run = Watched::start(&mut command);
    wait_until("a request to the store", || {
        let has_ended = run.child.try_wait().unwrap().is_some();
        assert!(!has_ended, "{}", run.printed());
        store.requests("PUT", "") > away
    });
    store.cut(true);
    assert_eq!(run.wait_for_end(), Some(3), "{}", run.printed());
    let said = run.printed();
    assert!(said.contains("CAR archive, s3://archive/c"), "{said}");
    let before = loaded(&db);
    assert!(before.len() < net.dids.len(), "{before:?}");
    store.cut(false);
    // Away for a while: it is waited for. The options are remembered.
    let asked = store.requests("PUT", "");
    let mut command = run_load(&db.url);
    command.args(["--store-option", "retry_timeout=60"]);
    command.env("AWS_ACCESS_KEY_ID", "test");
    command.env("AWS_SECRET_ACCESS_KEY", "test");
    let mut run = Watched::start(store.allow(&mut command));
    wait_until("a request to the store", || {
        let has_ended = run.child.try_wait().unwrap().is_some();
        assert!(!has_ended, "{}", run.printed());
        store.requests("PUT", "") > asked
    });
    store.cut(true);
    std::thread::sleep(Duration::from_millis(500));
    store.cut(false);
    assert_eq!(run.wait_for_end(), Some(0), "{}", run.printed());
    assert_eq!(loaded(&db).len(), net.dids.len());
    let kept = kept(&store, "c");
    assert!(net.dids.iter().all(|did| kept.contains(did)), "{kept:?}");
    // What is there is whole, and gives the same tables.
    assert_eq!(good(&store, "c"), kept.len() as u64);
    let second = TestDb::migrated();
    run_well(&mut load(&second, &store, "c"));
    assert_same(&second, &db, "from what was kept");
}

#[test]
fn a_store_that_cannot_be_used_is_named_before_any_work() {
    let (_, net) = scene(84);
    let (store, dir) = (ObjectStore::start(), folder());
    let closed = ObjectStore::start_closed();
    let db = TestDb::migrated();
    let refused = |mut command: Command, expected: &[&str]| {
        let output = command.output().unwrap();
        let said = told(&output);
        assert_ne!(output.status.code(), Some(0), "{said}");
        for text in expected {
            assert!(said.contains(text), "{text}: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    };
    let wrong = ["credentials are wrong", "AWS_ACCESS_KEY_ID"];
    refused(keep(&db, &net, dir.path(), &closed, "d"), &wrong);
    refused(load(&db, &closed, "d"), &wrong);
    let mut absent = run_load(&db.url);
    absent.args(["--from-cars", "s3://no-such-bucket/d"]);
    store.allow(&mut absent);
    refused(absent, &["the bucket does not exist"]);
    refused(
        load(&db, &store, "empty"),
        &["contains neither an index of an archive nor .car files"],
    );
    let mut plain = run_load(&db.url);
    plain.args(["--from-cars", &store.place("d")]);
    plain.args(["--store-option", "endpoint=http://127.0.0.1:9"]);
    refused(plain, &["allow_http=true"]);
    let mut secret = run_load(&db.url);
    secret.args(["--from-cars", &store.place("d")]);
    secret.args(["--store-option", "aws_secret_access_key=hidden"]);
    let output = secret.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("environment"), "{}", told(&output));
    assert!(!told(&output).contains("=hidden"), "{}", told(&output));
    assert_eq!(loaded(&db), Vec::<String>::new());
}

/// `archive merge` or `archive prune`, and what it counted.
fn rewrite(store: &ObjectStore, args: &[&str], code: i32) -> Value {
    let mut command = skyfill();
    command.args(["archive"]).args(args).arg("--json");
    let output = store.allow(&mut command).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    lines(&output).pop().unwrap()
}

/// The revs that an archive in a folder has, by account, as its index says.
fn revs(folder: &Path) -> Vec<(String, String)> {
    let index = fs::read_to_string(folder.join("index.jsonl")).unwrap();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let lines = index
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).unwrap() });
    let mut revs: Vec<_> = lines
        .map(|line| (text(&line, "did"), text(&line, "rev")))
        .collect();
    revs.sort();
    revs
}

#[test]
fn archives_are_merged_and_pruned_to_the_newest() {
    let (tangle, _) = scene(85);
    let (store, dir) = (ObjectStore::start(), folder());
    let mut random = simnet::Random::new(85);
    let dids: Vec<&str> = tangle.dids().collect();
    let newer: Vec<Vec<u8>> = dids
        .iter()
        .map(|did| later(&tangle.car(did), did, &mut random))
        .collect();
    let rev = |did: &str, car: &[u8]| atrepo::Repo::open(car, did).unwrap().commit().rev.clone();
    // The first `until` accounts at their later revs.
    let expected = |until: usize| -> Vec<(String, String)> {
        let of = |(number, did): (usize, &&str)| match number < until {
            true => ((*did).to_owned(), rev(did, &newer[number])),
            false => ((*did).to_owned(), rev(did, &tangle.car(did))),
        };
        let mut revs: Vec<_> = dids.iter().enumerate().map(of).collect();
        revs.sort();
        revs
    };
    // One has all of them, the other the first half at a later time, and a damaged one.
    write(&tangle, &store, "old");
    let plain = dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let half = dids.len() / 2;
    for (number, car) in newer.iter().enumerate().take(half) {
        fs::write(plain.join(format!("{number}.car")), car).unwrap();
    }
    let mut damaged = newer[half].clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(plain.join("damaged.car"), &damaged).unwrap();
    let into = dir.path().join("all");
    let (all, old) = (into.to_str().unwrap(), store.place("old"));
    let others = plain.to_str().unwrap();
    let done = rewrite(&store, &["merge", &old, others, "--into", all], 1);
    assert_eq!(done["copied"], dids.len() - 1);
    assert_eq!(done["bad"], 1);
    // Without it, the older one counts.
    fs::remove_file(plain.join("damaged.car")).unwrap();
    let done = rewrite(&store, &["merge", &old, others, "--into", all], 0);
    assert_eq!(done["copied"], 1);
    assert_eq!(revs(&into), expected(half));
    // The other half becomes newer: the folder has two of each of them, and after pruning one.
    for (number, car) in newer.iter().enumerate().skip(half) {
        fs::write(plain.join(format!("{number}.car")), car).unwrap();
    }
    let done = rewrite(&store, &["merge", others, "--into", all], 0);
    assert_eq!(done["copied"], dids.len() - half);
    assert_eq!(revs(&into).len(), dids.len() * 2 - half);
    assert_eq!(rewrite(&store, &["prune", all], 0)["bad"], 0);
    assert_eq!(revs(&into), expected(dids.len()));
    // The same in the store, killed right before anything is removed, and again.
    rewrite(&store, &["merge", all, "--into", &old], 0);
    assert_eq!(good(&store, "old"), dids.len() as u64 * 2);
    let mut killed = skyfill();
    killed.args(["archive", "prune", &old]);
    killed.env("SKYFILL_FAILPOINT", "remove=1");
    let output = store.allow(&mut killed).output().unwrap();
    assert_eq!(output.status.code(), None, "{}", told(&output));
    assert!(good(&store, "old") >= dids.len() as u64 * 2);
    let done = rewrite(&store, &["prune", &old], 0);
    assert!(done["removed"].as_u64().unwrap() > 0, "{done}");
    let mut kept = kept(&store, "old");
    kept.sort();
    let mut all_of_them = dids.clone();
    all_of_them.sort_unstable();
    assert_eq!(kept, all_of_them);
    assert_eq!(good(&store, "old"), dids.len() as u64);
}

#[test]
fn a_second_source_saves_requests_and_what_is_newer_is_fetched() {
    let (tangle, net) = scene(86);
    let dir = folder();
    let mut random = simnet::Random::new(86);
    // Somebody's CARs. The first is of a repo that is newer at its host, the last one is missing.
    let plain = dir.path().join("plain");
    fs::create_dir(&plain).unwrap();
    let last = net.dids.len() - 1;
    for (number, did) in net.dids.iter().enumerate().take(last) {
        let car = tangle.car(did);
        if number == 0 {
            let newer = later(&car, did, &mut random);
            net.server.set(did, simnet::Answer::Repo(Arc::new(newer)));
        }
        fs::write(plain.join(format!("{number}.car")), car).unwrap();
    }
    let (output, asked) = load_from_both(&net, dir.path(), &plain);
    assert_eq!(summary(&output)["repos"]["loaded"], net.dids.len());
    // Each host is asked for its rev, except for the repo that is missing; two are fetched.
    assert_eq!(asked, last as u64 + 2, "{}", told(&output));
}

/// The index of somebody's archive says another rev of a CAR than it has, and a plain CAR beside it
/// is damaged: both are fetched, and named.
#[test]
fn an_old_car_does_not_count_as_the_newest() {
    let (tangle, net) = scene(88);
    let dir = folder();
    let mut random = simnet::Random::new(88);
    let cars = dir.path().join("cars");
    let (old, damaged) = (&net.dids[0], &net.dids[1]);
    let rev = |did: &str, car: &[u8]| atrepo::Repo::open(car, did).unwrap().commit().rev.clone();
    let place = Place::Folder(cars.clone());
    let writer = Mutex::new(ArchiveWriter::open(&place, &Access::default(), 0).unwrap());
    for did in net.dids.iter().filter(|did| *did != damaged) {
        let car = tangle.car(did);
        let mut writer = writer.lock().unwrap();
        let added = writer.add(did, "https://pds.example", &rev(did, &car), &car);
        added.unwrap();
    }
    ArchiveWriter::sync(&writer).unwrap();
    drop(writer);
    let mut car = tangle.car(damaged);
    let (_, mut blocks) = atrepo::Blocks::open(&car).unwrap();
    let (_, _, block) = blocks.next().unwrap().unwrap();
    let block = block.to_vec();
    let at = car.windows(block.len()).position(|bytes| bytes == block);
    car[at.unwrap() + block.len() - 1] ^= 1;
    fs::write(cars.join("damaged.car"), car).unwrap();
    let newer = later(&tangle.car(old), old, &mut random);
    let newest = rev(old, &newer);
    net.server.set(old, simnet::Answer::Repo(Arc::new(newer)));
    let index = fs::read_to_string(cars.join("index.jsonl")).unwrap();
    let altered = index.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if line["did"] == old.as_str() {
            line["rev"] = newest.as_str().into();
        }
        format!("{line}\n")
    });
    fs::write(cars.join("index.jsonl"), altered.collect::<String>()).unwrap();
    let (output, asked) = load_from_both(&net, dir.path(), &cars);
    // Each host is asked for its rev; two repos are fetched.
    let said = told(&output);
    assert_eq!(asked, net.dids.len() as u64 + 2, "{said}");
    for named in [old, damaged] {
        assert!(said.contains(named.as_str()), "{named}: {said}");
    }
    assert!(
        said.contains(&format!("the index has {newest}; its host is asked")),
        "{said}"
    );
    // Without hosts it is not loaded, and the archive's own proof names it.
    let alone = TestDb::migrated();
    let mut command = run_load(&alone.url);
    let output = command.arg("--from-cars").arg(&cars).output().unwrap();
    let said = told(&output);
    assert_eq!(
        summary(&output)["repos"]["loaded"],
        net.dids.len() - 2,
        "{said}"
    );
    let sql = "SELECT error FROM skyfill.repo WHERE did = $1";
    let error: String = alone.client().query_one(sql, &[old]).unwrap().get(0);
    assert!(
        error.contains(&format!("the index has {newest}")),
        "{error}"
    );
    let mut command = skyfill();
    command.args(["archive", "verify", "--json"]).arg(&cars);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let findings = lines(&output);
    let altered = findings
        .iter()
        .find(|finding| finding["did"] == old.as_str());
    let altered = altered.unwrap_or_else(|| panic!("{}", told(&output)));
    assert_eq!(altered["fault"], "altered", "{altered}");
}
