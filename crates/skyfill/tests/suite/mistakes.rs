//! What is said about mistakes and faults of the surroundings: message, exit code and what to do
//! next, as snapshots (`INSTA_UPDATE=always` writes them anew). Nothing is done before what can be
//! checked is checked.

use std::fs;
use std::path::Path;
use std::process::Command;
use testbed::*;

/// What a command says and how it ends, without what differs between machines.
fn said(command: &mut Command, replace: &[(&str, &str)]) -> String {
    let output = command.output().expect("run skyfill");
    let printed = String::from_utf8_lossy(&output.stderr);
    // Warnings and sizes are of the machine and its server.
    let is_of_machine = |line: &str| line.starts_with("warning: ") || line.starts_with("sizes: ");
    let lines = printed.lines().filter(|line| !is_of_machine(line));
    let mut text = format!(
        "exit code {}\n{}{}",
        output.status.code().expect("an exit code"),
        String::from_utf8_lossy(&output.stdout),
        lines.map(|line| format!("{line}\n")).collect::<String>()
    );
    for (from, to) in replace {
        text = text.replace(from, to);
    }
    text
}

/// Where a URL leads, as skyfill shows it.
fn shown(db: &TestDb) -> String {
    pg_shown(&db.url)
}

/// User, folder of the socket and name of the database.
fn pg_shown(url: &str) -> String {
    let config: postgres::Config = url.parse().expect("a URL");
    let host = match &config.get_hosts()[0] {
        postgres::config::Host::Tcp(name) => format!("{name}:5432"),
        postgres::config::Host::Unix(folder) => folder.display().to_string(),
    };
    format!(
        "{}@{host}/{}",
        config.get_user().expect("a user"),
        config.get_dbname().expect("a name")
    )
}

fn in_folder(dir: &Path, args: &[&str]) -> Command {
    let mut command = skyfill();
    command.args(args).current_dir(dir);
    command
}

/// In a folder without a database, commands that have nothing to make one for say so, and make
/// none.
#[test]
fn in_a_wrong_folder() {
    let dir = folder();
    let here = dir.path().to_str().unwrap();
    let commands: [&[&str]; 9] = [
        &["run"],
        &["catch-up"],
        &["identities"],
        &["finalize"],
        &["verify"],
        &["status"],
        &["indexes", "status"],
        &["indexes", "restore"],
        &["db", "url"],
    ];
    let all: Vec<String> = commands
        .iter()
        .map(|args| {
            format!(
                "$ skyfill {}\n{}",
                args.join(" "),
                said(&mut in_folder(dir.path(), args), &[(here, "FOLDER")])
            )
        })
        .collect();
    insta::assert_snapshot!(all.join("\n"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Arguments and files that can be looked at before the database.
#[test]
fn arguments_and_files() {
    let dir = folder();
    let here = dir.path().to_str().unwrap();
    fs::write(
        dir.path().join("dids.csv"),
        "did,pds\ndid:plc:a,https://pds.example\n".repeat(500),
    )
    .unwrap();
    fs::write(dir.path().join("opt-out.txt"), "https://pds.example/\n").unwrap();
    fs::write(dir.path().join("dids.jsonl"), "").unwrap();
    let commands: [&[&str]; 17] = [
        &["run", "--did", "alice.example"],
        &["run", "--discover", "--plc-url", "ftp://plc.example"],
        &[
            "producer",
            "dids.jsonl",
            "a.sock",
            "--starting-line",
            "10",
            "--ending-line",
            "5",
        ],
        &["run", "dids.csv"],
        &["run", "missing.jsonl"],
        &["run", "."],
        &["producer", "dids.csv", "a.sock"],
        &["producer", "dids.csv", "a.sock", "b.sock"],
        &[
            "producer",
            "dids.csv",
            "a.sock",
            "--failures",
            "missing/failures.jsonl",
        ],
        &["consumer", "a.sock", "--rejects", "missing/rejects.jsonl"],
        &["discover", "--did-file", "missing/dids.jsonl"],
        &["discover", "--relay", "nowhere at all"],
        &["discover", "--opt-out", "missing.txt"],
        &["discover", "--opt-out", "opt-out.txt"],
        &["run", "--did", "did:plc:a", "--spool-dir", "missing"],
        &[
            "run",
            "--did",
            "did:plc:a",
            "--certificate",
            "missing/c.json",
        ],
        &["simnet", "--faults", "limits429,nonsense"],
    ];
    let all: Vec<String> = commands
        .iter()
        .map(|args| {
            format!(
                "$ skyfill {}\n{}",
                args.join(" "),
                said(&mut in_folder(dir.path(), args), &[(here, "FOLDER")])
            )
        })
        .collect();
    let failpoint = said(
        in_folder(dir.path(), &["status"]).env("SKYFILL_FAILPOINT", "phase=x"),
        &[],
    );
    insta::assert_snapshot!(format!(
        "{}\n$ SKYFILL_FAILPOINT=phase=x skyfill status\n{failpoint}",
        all.join("\n")
    ));
    assert!(!dir.path().join("skyfill-data").exists());
}

/// Databases that cannot hold the AppView's rows are refused before anything is made in them.
#[test]
fn databases_that_do_not_fit() {
    let mut all = Vec::new();
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let db = TestDb::made_with(&format!(
            "TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        ));
        for args in [
            &["migrate"][..],
            &["run", "--did", "did:plc:a"],
            &["discover"],
        ] {
            let text = said(
                skyfill().args(args).env("BSKY_DB_POSTGRES_URL", &db.url),
                &[(&shown(&db), "DATABASE")],
            );
            all.push(format!(
                "$ skyfill {}    # {encoding}\n{text}",
                args.join(" ")
            ));
        }
        let made: i64 = db
            .client()
            .query_one(
                "SELECT count(*) FROM pg_namespace WHERE nspname IN ('bsky', 'skyfill')",
                &[],
            )
            .unwrap()
            .get(0);
        assert_eq!(made, 0);
    }
    let db = TestDb::empty();
    for args in [&["discover"][..], &["status"], &["verify"]] {
        let text = said(
            skyfill().args(args).env("BSKY_DB_POSTGRES_URL", &db.url),
            &[(&shown(&db), "DATABASE")],
        );
        all.push(format!(
            "$ skyfill {}    # not migrated\n{text}",
            args.join(" ")
        ));
    }
    insta::assert_snapshot!(all.join("\n"));
}

/// What would be lost, or mixed, is refused.
#[test]
fn tables_that_hold_rows() {
    let net = Net::of_tangle(&simnet::Tangle::new(47, 4, 200));
    let (db, dir) = (TestDb::migrated(), folder());
    let file = did_file(
        dir.path(),
        &net.server.url(),
        net.dids.iter().map(String::as_str),
    );
    let file = file.to_str().unwrap();
    run_well(run_load(&db.url).args([file, "--notifications", "none"]));
    let shown = shown(&db);
    let replace: [(&str, &str); 2] = [(&shown, "DATABASE"), (file, "dids.jsonl")];
    let mut all = Vec::new();
    for args in [
        &["migrate", "--recreate-schema"][..],
        &["run", file, "--notifications", "all"],
        &["run", file, "--collections", "app.bsky.feed.like"],
        &["run", file, "--mode", "fresh"],
    ] {
        let text = said(
            skyfill().args(args).env("BSKY_DB_POSTGRES_URL", &db.url),
            &replace,
        );
        all.push(format!("$ skyfill {}\n{text}", args.join(" ")).replace(file, "dids.jsonl"));
    }
    // A run whose phase a newer skyfill wrote.
    db.client()
        .batch_execute("UPDATE skyfill.run SET phase = 'compact'")
        .unwrap();
    all.push(format!(
        "$ skyfill run    # phase compact\n{}",
        said(
            skyfill().arg("run").env("BSKY_DB_POSTGRES_URL", &db.url),
            &replace
        )
    ));
    insta::assert_snapshot!(all.join("\n"));
    assert!(db.count("record") > 0);
}

/// A schema is not dropped while somebody works on it; when nobody does, and somebody says so, it
/// is.
#[test]
fn a_schema_is_not_dropped_while_a_run_works_on_it() {
    let (db, dir) = (TestDb::migrated(), folder());
    let consumer = Consumer::start(&db.url, dir.path(), "s", &[]);
    let migrate = |args: &[&str]| {
        skyfill()
            .args(["migrate", "--recreate-schema"])
            .args(args)
            .env("BSKY_DB_POSTGRES_URL", &db.url)
            .output()
            .unwrap()
    };
    let output = migrate(&["--yes"]);
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    assert!(
        told(&output).contains("another skyfill uses schema bsky of")
            && told(&output).contains("nothing was dropped"),
        "{}",
        told(&output)
    );
    consumer.stop();
    // An empty schema needs no word.
    let output = migrate(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

/// Empty variables count as unset, and the original's usage is taken.
#[test]
fn empty_variables_and_the_usage_of_the_original() {
    let db = TestDb::migrated();
    let mut consumer = skyfill();
    // All that commands read, by their own reference.
    let reference = run_well(skyfill().arg("reference"));
    let reference = String::from_utf8(reference.stdout).unwrap();
    let (_, environment) = reference.split_once("\n## Environment\n").unwrap();
    let variables: Vec<&str> = environment
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next())
        .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
        .collect();
    assert!(variables.contains(&"SKYFILL_SPOOL_DIR"), "{variables:?}");
    for variable in variables {
        consumer.env(variable, "");
    }
    let output = consumer
        .args([
            "consumer",
            "unused.sock",
            "--db-test",
            "copy-binary",
            "--rows",
            "2000",
        ])
        .args(["--database-url", &db.url])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(db.count("follow"), 2000);
    let help = told(&skyfill().args(["run", "--help"]).output().unwrap());
    assert!(
        help.contains(r#"["did:plc:...","https://pds.example"]"#),
        "{help}"
    );
}
