//! `skyfill report`: a page that opens without a network, holds what hosts say as text, and has the
//! data of `--json`.

use std::fs;
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

#[test]
fn a_browser_opens_it_without_a_complaint() {
    let (db, dir) = loaded();
    let path = dir.path().join("run.html");
    run_well(&mut on(&db, &["report", "-o", path.to_str().unwrap()]));
    let page = format!("file://{}", path.display());
    let mut browser = Browser::start();
    for (name, screen, is_dark) in [
        ("light", (1280, 900), false),
        ("dark", (1280, 900), true),
        ("phone", (390, 844), false),
    ] {
        browser.set_screen(screen, is_dark);
        browser.goto(&page);
        browser.screenshot(&format!("report-{name}"));
        let errors = browser.errors();
        assert!(errors.is_empty(), "{name}: {errors:#?}");
        let faults = browser.accessibility_faults();
        assert!(faults.is_empty(), "{name}: {faults:#?}");
    }
    let has = |browser: &mut Browser, what: &str| {
        let asked = format!("document.querySelector({what:?}) !== null");
        browser.eval(&asked) == true
    };
    assert!(has(&mut browser, "section#sizes"));
    assert!(!has(&mut browser, "script, img, iframe"));
    let requests = browser.requests();
    assert!(requests.iter().all(|url| *url == page), "{requests:?}");
}
