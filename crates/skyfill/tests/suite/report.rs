//! `skyfill report`: a page that opens without a network, holds what hosts say as text, and has the
//! data of `--json`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use testbed::*;

fn on(db: &TestDb, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(args).env("BSKY_DB_POSTGRES_URL", &db.url);
    command
}

/// What a host says that wants to be markup.
const EVIL: &str = "<script>alert('owned')</script><img src=x onerror=\"alert(1)\">";

/// Some accounts, of which one host says evil things.
fn loaded() -> (TestDb, tempfile::TempDir) {
    let net = Net::of_tangle(&simnet::Tangle::new(23, 12, 900));
    net.server
        .set(&net.dids[0], simnet::Answer::error(400, "NoSuchThing"));
    let (db, dir) = (TestDb::migrated(), folder());
    let dids = net.dids.iter().map(String::as_str);
    let file = did_file(dir.path(), &net.server.url(), dids);
    let output = run_load(&db.url).arg(file).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("skyfill report"),
        "{}",
        told(&output)
    );
    let mut client = db.client();
    for statement in [
        "UPDATE skyfill.repo SET error = $1 WHERE state = 'failed'",
        "UPDATE skyfill.host SET trouble = $1",
        "UPDATE skyfill.process SET machine = $1",
    ] {
        assert!(client.execute(statement, &[&EVIL]).unwrap() > 0);
    }
    (db, dir)
}

#[test]
fn a_page_holds_all_of_a_run_and_nothing_acts() {
    let (db, dir) = loaded();
    let path = dir.path().join("run.html");
    let path_text = path.to_str().unwrap();
    run_well(&mut on(&db, &["report", "--output", path_text]));
    let page = fs::read_to_string(&path).unwrap();
    for id in [
        "phases", "rates", "content", "hosts", "failures", "proof", "sizes", "settings",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\"")), "{id}");
    }
    assert!(page.contains("app.bsky.feed.like") && page.contains("record_pkey"));
    // What a host said is text, and nothing leads off the machine.
    assert!(
        !page.contains("<script") && !page.contains("<img"),
        "{page}"
    );
    assert!(
        page.contains("&lt;script&gt;alert(&#39;owned&#39;)"),
        "{page}"
    );
    for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
    // The same data as JSON.
    let json = summary(&run_well(&mut on(&db, &["report", "--json"])));
    let kinds = json["content"]["kinds"].as_array().unwrap();
    let records: f64 = kinds
        .iter()
        .map(|kind| kind["records"].as_f64().unwrap())
        .sum();
    assert!(
        (records - db.count("record") as f64).abs() < 0.5,
        "{records}"
    );
    assert_eq!(json["stored"]["records"], db.count("record"));
    assert_eq!(json["failures"][0]["repos"], 1);
    assert!(json["server"]["databaseBytes"].as_u64().unwrap() > 1 << 20);
    let phases = json["phases"].as_array().unwrap();
    let names: Vec<&str> = phases
        .iter()
        .map(|phase| phase["phase"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["load", "indexes", "vacuum", "finalize", "verify"]);
    let tables = json["tables"].as_array().unwrap();
    let record = tables
        .iter()
        .find(|table| table["table"] == "record")
        .unwrap();
    assert!(record["bytes"].as_u64().unwrap() > 0 && record["indexes"][0]["bytes"].is_u64());
    // A folder that is not there is an error before anything is written.
    let output = on(&db, &["report", "-o", "/nowhere/run.html"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
}

fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = [
        "chromium-headless-shell",
        "chromium",
        "chromium-browser",
        "google-chrome",
    ];
    let mut names = names.iter();
    let found = names.find_map(|name| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|file| file.exists())
    });
    found.expect("chromium: scripts/setup.sh test installs it")
}

/// What the browser made of a page, and what it complained about.
fn opened(browser: &Path, page: &Path, dir: &Path) -> (String, String) {
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    command.args(["--enable-logging=stderr", "--disable-background-networking"]);
    command.arg(format!("--user-data-dir={}", dir.join("browser").display()));
    let output = command
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    let complaints: Vec<String> = String::from_utf8_lossy(&output.stderr)
        .lines()
        .filter(|line| line.contains("CONSOLE"))
        .map(str::to_owned)
        .collect();
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    (dom, complaints.join("\n"))
}

#[test]
fn a_browser_opens_it_without_a_complaint() {
    let (db, dir) = loaded();
    let path = dir.path().join("run.html");
    run_well(&mut on(&db, &["report", "-o", path.to_str().unwrap()]));
    let (dom, complaints) = opened(&chromium(), &path, dir.path());
    assert_eq!(complaints, "");
    assert!(dom.contains("<section id=\"sizes\""), "{dom}");
    assert!(!dom.contains("<script") && !dom.contains("<img"), "{dom}");
}
