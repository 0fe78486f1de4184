//! What keeping a database costs once it is finalized and proved: the changes of a hundredth of the
//! repos against computing and comparing everything, and likes on one post that has many against
//! likes on posts that nobody knows.

use crate::scene::{Scene, Took, run as run_command, skyfill_run, write_cars};
use simnet::Population;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// Likes that the one post has before.
const MANY: usize = 500_000;
/// Likes that come.
const LIKES: usize = 10_000;
/// The post that has many.
const POST: &str = "at://did:plc:liked/app.bsky.feed.post/3jzfcijpj2z2a";
const CID: &str = "bafyreigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";

/// Runs it, with so many repos that change, or a hundredth (0); the report.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn run(binary: &Path, records: usize, repos: usize) -> String {
    let scene = Scene::new();
    let population = Population::new(1, (records / 160).max(100), records);
    eprintln!("generating {records} records");
    let cars = scene.folder().join("cars");
    write_cars(&population, &cars);
    scene.fresh("filled");
    let url = scene.url("filled");
    eprintln!("loading them");
    run_command(&mut skyfill_run(binary, &url, Some(&cars)), false);
    let everything = scene.time(|| {
        let (one, _) = run_command(of(binary, "finalize", &url).arg("--restart"), false);
        let (two, peak) = run_command(of(binary, "verify", &url).arg("--all"), false);
        (one + two, peak)
    });
    eprintln!("everything: {:.1} s", everything.seconds);
    let nothing = scene.time(|| changes(binary, &url, None));
    let repos = match repos {
        0 => population.len() / 100,
        repos => repos,
    };
    let changed = scene.folder().join("changed");
    let records_changed = write_changed(&population, &changed, repos);
    let change = scene.time(|| changes(binary, &url, Some(&changed)));
    eprintln!("changes: {:.1} s", change.seconds);
    let mut out = format!(
        "{} repos with {records} records. {repos} repos change, {records_changed} records in all. Everything is \
         `finalize --restart` and `verify --all`; the changes are merged, finalized and compared by `run` over those \
         repos, from files.\n\n| what | seconds | of everything | client CPU s | PostgreSQL CPU s |\n|---|---|---|---|---|\n",
        population.len()
    );
    let lines: [(&str, Took); 3] = [
        ("everything", everything),
        ("the changes", change),
        ("a run to which nothing is to be done", nothing),
    ];
    for (name, took) in lines {
        let _ = writeln!(
            out,
            "| {name} | {:.2} | {:.1} % | {:.2} | {:.2} |",
            took.seconds,
            took.seconds / everything.seconds * 100.0,
            took.client_cpu,
            took.server_cpu
        );
    }
    out.push_str(&likes(&scene, binary, &url));
    out
}

/// A command on the database.
fn of(binary: &Path, command: &str, url: &str) -> Command {
    let mut command_line = Command::new(binary);
    command_line.arg(command).env("BSKY_DB_POSTGRES_URL", url);
    command_line
}

/// Merges repos from files, finalizes and compares.
fn changes(binary: &Path, url: &str, cars: Option<&Path>) -> (f64, f64) {
    let mut command = of(binary, "run", url);
    command.args(["--handles", "skip", "--now", "2026-11-01T00:00:00Z"]);
    if let Some(cars) = cars {
        command.arg("--from-cars").arg(cars);
    }
    run_command(&mut command, false)
}

/// Writes `repos` repos some time later: a tenth of the records of each is gone or new. How many
/// those are.
fn write_changed(population: &Population, folder: &Path, repos: usize) -> usize {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut changed = 0;
    for number in 0..repos {
        let account = number * 97 % population.len();
        let did = population.did(account);
        let mut records = population.records(account);
        let touched = records.len() / 20;
        for at in 0..touched {
            let gone = records.swap_remove(at * 7 % records.len());
            let (collection, _) = gone.0.split_once('/').expect("a key");
            let rkey = atrepo::syntax::tid(1_770_000_000_000_000 + at as u64, 3);
            records.push((format!("{collection}/{rkey}"), gone.1));
            changed += 2;
        }
        records.sort();
        let rev = atrepo::syntax::tid(1_780_000_000_000_000, 1);
        let car = simnet::build_repo(&did, &rev, records);
        std::fs::write(folder.join(format!("{account}.car")), car).expect("write a CAR");
    }
    changed
}

/// Likes on a post that has many, and on posts that nobody knows.
#[allow(clippy::cast_precision_loss)]
fn likes(scene: &Scene, binary: &Path, url: &str) -> String {
    eprintln!("{MANY} likes on one post");
    let mut client = scene.connect("filled");
    client
        .batch_execute(&format!(
            "INSERT INTO bsky.\"like\" (uri, cid, creator, subject, \"subjectCid\", \"createdAt\", \"indexedAt\")
             SELECT 'at://did:plc:many' || n || '/app.bsky.feed.like/3jzfcijpj2z2a', '{CID}', 'did:plc:many' || n, '{POST}', '{CID}',
               '2025-01-01T00:00:00.000Z', '2025-01-01T00:00:00.000Z'
             FROM generate_series(1, {MANY}) n"
        ))
        .expect("likes");
    run_command(of(binary, "finalize", url).arg("--restart"), false);
    let mut took = Vec::new();
    for (name, is_known) in [("known", true), ("unknown", false)] {
        let folder = scene.folder().join(name);
        write_likes(&folder, name, |number| match is_known {
            true => POST.to_owned(),
            false => format!("at://did:plc:unknown{number}/app.bsky.feed.post/3jzfcijpj2z2a"),
        });
        let time = scene.time(|| {
            let mut command = skyfill_run(binary, url, Some(&folder));
            run_command(&mut command, false)
        });
        eprintln!("likes, {name}: {:.1} s", time.seconds);
        took.push(time);
    }
    let stored: i64 = client
        .query_one(
            "SELECT \"likeCount\" FROM bsky.post_agg WHERE uri = $1",
            &[&POST],
        )
        .expect("its count")
        .get(0);
    assert_eq!(usize::try_from(stored), Ok(MANY + LIKES));
    let per_like = |took: &Took| took.seconds / LIKES as f64 * 1e6;
    format!(
        "\n{LIKES} likes, each of another account, are merged and finalized by `run`, from files.\n\n\
         | likes on | µs per like | PostgreSQL CPU µs per like |\n|---|---|---|\n\
         | one post with {MANY} likes | {:.0} | {:.0} |\n| unknown posts, one each | {:.0} | {:.0} |\n\n\
         ratio: {:.2}, wanted: at most 2\n",
        per_like(&took[0]),
        took[0].server_cpu / LIKES as f64 * 1e6,
        per_like(&took[1]),
        took[1].server_cpu / LIKES as f64 * 1e6,
        took[0].seconds / took[1].seconds
    )
}

fn write_likes(folder: &Path, name: &str, subject: impl Fn(usize) -> String) {
    std::fs::create_dir_all(folder).expect("a folder");
    for number in 0..LIKES {
        let mut w = atrepo::cbor::Writer::new();
        w.map(3).text("$type").text("app.bsky.feed.like");
        w.text("subject").map(2);
        w.text("cid").text(CID).text("uri").text(&subject(number));
        w.text("createdAt").text("2025-01-01T00:00:00.000Z");
        let key = "app.bsky.feed.like/3jzfcijpj2z2a".to_owned();
        let did = format!("did:plc:{name}{number}");
        let rev = atrepo::syntax::tid(1_750_000_000_000_000, 1);
        let car = simnet::build_repo(&did, &rev, vec![(key, w.into_bytes())]);
        std::fs::write(folder.join(format!("{number}.car")), car).expect("write a CAR");
    }
}
