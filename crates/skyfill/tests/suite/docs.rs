//! The commands in the tutorial and the how-to guides, run as a reader would run them.
//!
//! Code blocks are marked in their opening fence: `sh run` must succeed, `sh fails` must end with
//! exit code 1, `sh background` runs until the end of the test, and `sh paste` stands for the
//! command that the practice network prints. Blocks without a mark are only parsed (see
//! `cli::docs_test`).

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use testbed::*;

/// The relay's URL in the pages, in whose place the test puts that of its own network.
const RELAY_IN_PAGES: &str = "http://127.0.0.1:40961";

/// A marked code block of a page.
struct Block {
    mark: String,
    text: String,
}

/// The marked code blocks of a page, in order.
fn blocks(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(page);
    let text = fs::read_to_string(&path).unwrap();
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                open = Some(Block {
                    mark: info.strip_prefix("sh ").unwrap_or_default().to_owned(),
                    text: String::new(),
                });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    blocks.retain(|block| !block.mark.is_empty());
    assert!(!blocks.is_empty(), "{page} has no marked block");
    blocks
}

/// A reader's shell: a folder, and skyfill in the PATH.
struct Shell {
    folder: tempfile::TempDir,
    /// The database to use instead of a private one.
    database: Option<String>,
    background: Vec<Child>,
}

impl Shell {
    fn new(database: Option<&str>) -> Self {
        Self {
            folder: folder(),
            database: database.map(str::to_owned),
            background: Vec::new(),
        }
    }

    fn command(&self, text: &str) -> Command {
        let binary = binary();
        let mut path = binary.parent().unwrap().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = clean(Command::new("bash"));
        command
            .args(["-euo", "pipefail", "-c", text])
            .current_dir(self.folder.path())
            .env("PATH", path);
        if let Some(url) = &self.database {
            command.env("BSKY_DB_POSTGRES_URL", url);
        }
        command
    }

    /// Runs a block to its end.
    fn run(&self, text: &str, expected: i32) {
        let output = self.command(text).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(expected),
            "{text}\n{}",
            told(&output)
        );
    }

    /// Starts a practice network. Returns the URL of its relay and the command that it prints.
    fn start_network(&mut self, text: &str) -> (String, String) {
        let mut child = self
            .command(&format!("exec {text}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut urls = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut urls)
            .unwrap();
        let urls: serde_json::Value = serde_json::from_str(&urls).unwrap();
        let stderr = BufReader::new(child.stderr.as_mut().unwrap());
        let printed = stderr
            .lines()
            .map(Result::unwrap)
            .find(|line| line.trim_start().starts_with("skyfill run "))
            .expect("the network prints a command");
        self.background.push(child);
        (
            urls["relay"].as_str().unwrap().to_owned(),
            printed.trim().to_owned(),
        )
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if self.database.is_none() {
            drop(self.command("skyfill db stop").output());
        }
        for child in &mut self.background {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// From nothing to a verdict, a repair and a catch-up, in a private PostgreSQL.
#[test]
fn the_tutorial_works_as_written() {
    let mut shell = Shell::new(None);
    let mut network = None;
    for block in blocks("tutorial/first-hour.md") {
        match block.mark.as_str() {
            "background" => network = Some(shell.start_network(&block.text)),
            "paste" => {
                let (_, printed) = network.as_ref().unwrap();
                shell.run(&format!("{printed} --certificate first.json"), 0);
                assert_verdict(&shell.folder.path().join("first.json"), "complete");
            }
            mark => {
                let (relay, _) = network.as_ref().unwrap();
                let text = block.text.replace(RELAY_IN_PAGES, relay);
                shell.run(&text, i32::from(mark == "fails"));
            }
        }
    }
    assert_verdict(&shell.folder.path().join("certificate.json"), "complete");
}

fn assert_verdict(certificate: &Path, verdict: &str) {
    let text = fs::read_to_string(certificate).unwrap();
    let certificate: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(certificate["verdict"], verdict, "{text}");
}

/// The guides begin where the tutorial ends: a practice network whose options are stored, and a DID
/// file of its accounts.
#[test]
fn the_how_to_guides_work_as_written() {
    for page in ["how-to/partial-backfills.md", "how-to/profiling.md"] {
        let db = TestDb::migrated();
        let mut shell = Shell::new(Some(&db.url));
        let (_, printed) =
            shell.start_network("skyfill simnet --repos 40 --records 1000 --dids dids.jsonl");
        shell.run(&printed.replacen("run --discover", "discover", 1), 0);
        for block in blocks(page) {
            assert_eq!(block.mark, "run", "{page}");
            shell.run(&block.text, 0);
        }
        assert!(db.count("record") > 0, "{page}");
    }
}
