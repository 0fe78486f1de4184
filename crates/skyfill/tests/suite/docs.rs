//! The commands in README.md, the tutorial and the how-to guides, run as a reader would run them.
//! `testbed::pages` says how pages mark them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use testbed::pages::{Block, Mark, blocks, pages};
use testbed::*;

/// Pages whose marked blocks are run by the tests below.
const RUN: &[&str] = &[
    "README.md",
    "docs/how-to/backfill-bsky.md",
    "docs/how-to/full-network.md",
    "docs/how-to/installing.md",
    "docs/how-to/live-appview.md",
    "docs/how-to/original-scripts.md",
    "docs/how-to/partial-backfills.md",
    "docs/how-to/profiling.md",
    "docs/how-to/questions.md",
    "docs/how-to/several-machines.md",
    "docs/tutorial/first-hour.md",
];

/// A practice network that runs beside a reader's shell.
struct Practice {
    process: Child,
    urls: serde_json::Value,
    /// The command that it printed.
    command: String,
}

/// A reader's shell: a folder, with skyfill in the PATH. What a block exports and where it goes
/// holds for the next one.
struct Shell {
    folder: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    practice: Option<Practice>,
}

impl Shell {
    fn new() -> Self {
        Self {
            folder: folder(),
            environment: Vec::new(),
            practice: None,
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
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .envs(self.environment.iter().cloned());
        command
    }

    /// Runs a block to its end. What it left running ends with it.
    fn run(&self, text: &str, expected: i32) -> Output {
        let state = self.folder.path().join(".session");
        let state = state.display();
        let script = format!(
            "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
             if [ -e {state} ]; then . {state}; cd \"$SESSION_FOLDER\"; fi
             {text}
             export SESSION_FOLDER=\"$PWD\"
             export -p > {state}"
        );
        let output = self.command(&script).output().unwrap();
        let code = output.status.code();
        assert_eq!(code, Some(expected), "{text}\n{}", told(&output));
        output
    }

    /// Starts a practice network.
    fn start_network(&mut self, text: &str) {
        let mut process = self
            .command(&format!("exec {text}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut urls = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut urls)
            .unwrap();
        let stderr = BufReader::new(process.stderr.as_mut().unwrap());
        let printed = stderr
            .lines()
            .map(Result::unwrap)
            .find(|line| line.trim_start().starts_with("skyfill run "))
            .expect("the network prints a command");
        self.practice = Some(Practice {
            process,
            urls: serde_json::from_str(&urls).unwrap(),
            command: printed.trim().to_owned(),
        });
    }

    fn practice(&self) -> &Practice {
        self.practice.as_ref().expect("a practice network")
    }

    /// What a name in the comments of a page stands for.
    fn value(&self, name: &str) -> String {
        let url = |member: &serde_json::Value| member.as_str().unwrap().to_owned();
        let urls = &self.practice().urls;
        match name {
            "RELAY" => url(&urls["relay"]),
            "HOST1" => url(&urls["hosts"][0]),
            "HOST2" => url(&urls["hosts"][1]),
            "PRACTICE" => {
                let options = self
                    .practice()
                    .command
                    .strip_prefix("skyfill run --discover ");
                options.unwrap().to_owned()
            }
            "DID1" => {
                let file = fs::read_to_string(self.folder.path().join("dids.jsonl")).unwrap();
                let line: Vec<String> = serde_json::from_str(file.lines().next().unwrap()).unwrap();
                line[0].clone()
            }
            "NEW_DATABASE" => self.new_database(),
            _ => panic!("{name} stands for nothing"),
        }
    }

    /// A name for a database that a page makes; the tests' server drops it with those of processes
    /// that ended.
    fn new_database(&self) -> String {
        let unique: u32 = self
            .folder
            .path()
            .display()
            .to_string()
            .bytes()
            .map(u32::from)
            .sum();
        format!("test_{}_{}", std::process::id(), 1_000_000 + unique)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        if self.environment.is_empty() {
            // The private PostgreSQL, wherever the page made it.
            for folder in [".", "first-hour"] {
                let stop = format!("cd {folder} && skyfill db stop");
                drop(self.command(&stop).output());
            }
        }
        if let Some(practice) = &mut self.practice {
            drop(practice.process.kill());
            drop(practice.process.wait());
        }
    }
}

fn assert_verdict(certificate: &Path, verdict: &str) {
    let text = fs::read_to_string(certificate).unwrap();
    let certificate: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(certificate["verdict"], verdict, "{text}");
}

/// From nothing to a verdict, a repair, a stop and a catch-up, in a private PostgreSQL.
#[test]
fn the_tutorial_works_as_written() {
    let mut shell = Shell::new();
    for block in blocks("docs/tutorial/first-hour.md") {
        let text = |shell: &Shell| block.with(|name| shell.value(name));
        match block.mark {
            Mark::Parse => {}
            Mark::Background => shell.start_network(&block.text),
            Mark::Paste => {
                let printed = &shell.practice().command;
                shell.run(&format!("{printed} --certificate first.json"), 0);
                let certificate = shell.folder.path().join("first-hour/first.json");
                assert_verdict(&certificate, "complete");
            }
            Mark::Stop => {
                let printed = &shell.practice().command;
                let text = format!("SKYFILL_FAILPOINT=phase=1,stop {printed}");
                let stopped = told(&shell.run(&format!("{text} || code=$?; exit $code"), 4));
                let next = stopped.lines().rev();
                let next = next.filter_map(|line| line.strip_prefix("stopped; continue with: "));
                shell.run(
                    next.clone().next().unwrap_or_else(|| panic!("{stopped}")),
                    0,
                );
            }
            Mark::Fails => drop(shell.run(&text(&shell), 1)),
            Mark::Run { .. } => drop(shell.run(&text(&shell), 0)),
        }
    }
    let certificate = shell.folder.path().join("first-hour/certificate.json");
    assert_verdict(&certificate, "complete");
}

/// What the pages behind the tutorial assume: a practice network that is known to the database, a
/// DID file of its accounts, and a DID cache of the original scripts.
struct Reader {
    shell: Shell,
    db: TestDb,
}

impl Reader {
    fn new() -> Self {
        let mut shell = Shell::new();
        shell.start_network("skyfill simnet --hosts 3 --repos 40 --records 1000 --dids dids.jsonl");
        let dids = fs::read_to_string(shell.folder.path().join("dids.jsonl")).unwrap();
        fs::write(shell.folder.path().join("did-cache.bin"), cache_of(&dids)).unwrap();
        let db = TestDb::migrated();
        let mut reader = Self { shell, db };
        reader.begin();
        reader
    }

    /// Makes the network known to the database.
    fn begin(&mut self) {
        let config: postgres::Config = self.db.url.parse().unwrap();
        let postgres::config::Host::Unix(sockets) = &config.get_hosts()[0] else {
            panic!("the tests' server has a socket");
        };
        let urls = &self.shell.practice().urls;
        self.shell.environment = vec![
            ("BSKY_DB_POSTGRES_URL", self.db.url.clone()),
            (
                "BSKY_REPO_PROVIDER",
                urls["relay"].as_str().unwrap().to_owned(),
            ),
            ("BSKY_DID_PLC_URL", urls["plc"].as_str().unwrap().to_owned()),
            ("PGHOST", sockets.display().to_string()),
            ("PGUSER", config.get_user().unwrap().to_owned()),
        ];
        let known = format!("skyfill discover {}", self.shell.value("PRACTICE"));
        assert_eq!(self.shell.command(&known).status().unwrap().code(), Some(0));
    }

    fn run(&mut self, block: &Block) {
        let text = |shell: &Shell| block.with(|name| shell.value(name));
        match block.mark {
            Mark::Run { fresh } => {
                if fresh {
                    self.db = TestDb::migrated();
                    drop(fs::remove_file(self.shell.folder.path().join(".session")));
                    self.begin();
                }
                self.shell.run(&text(&self.shell), 0);
            }
            Mark::Fails => drop(self.shell.run(&text(&self.shell), 1)),
            Mark::Parse => {}
            _ => panic!("line {}: only the tutorial has such a block", block.line),
        }
    }
}

/// Pairs as msgpackr writes them.
fn cache_of(did_file: &str) -> Vec<u8> {
    let mut cache = Vec::new();
    for line in did_file.lines() {
        let pair: [String; 2] = serde_json::from_str(line).unwrap();
        cache.push(0x92);
        for text in pair {
            cache.extend([0xd9, u8::try_from(text.len()).unwrap()]);
            cache.extend(text.as_bytes());
        }
    }
    cache
}

/// Runs what a page marks to be run. Returns the database as the page leaves it.
fn works(page: &str) -> Reader {
    assert!(RUN.contains(&page), "{page}");
    let mut reader = Reader::new();
    for block in blocks(page) {
        reader.run(&block);
    }
    reader
}

#[test]
fn the_readme_works_as_written() {
    assert!(works("README.md").db.count("record") > 0);
}

#[test]
fn the_guide_for_the_full_network_works_as_written() {
    let reader = works("docs/how-to/full-network.md");
    let name = reader.shell.new_database();
    let drop_it = format!("dropdb --force {name}");
    assert!(reader.shell.command(&drop_it).status().unwrap().success());
}

#[test]
fn the_guide_to_a_live_appview_works_as_written() {
    assert!(works("docs/how-to/live-appview.md").db.count("record") > 0);
}

#[test]
fn the_guide_to_partial_backfills_works_as_written() {
    works("docs/how-to/partial-backfills.md");
}

#[test]
fn the_guide_to_questions_works_as_written() {
    assert!(works("docs/how-to/questions.md").db.count("record") > 0);
}

#[test]
fn the_guide_to_several_machines_works_as_written() {
    assert!(works("docs/how-to/several-machines.md").db.count("record") > 0);
}

#[test]
fn the_guide_to_profiling_works_as_written() {
    assert!(works("docs/how-to/profiling.md").db.count("record") > 0);
}

#[test]
fn the_guide_from_the_original_scripts_works_as_written() {
    assert!(works("docs/how-to/original-scripts.md").db.count("record") > 0);
}

#[test]
fn the_guide_from_backfill_bsky_works_as_written() {
    assert!(works("docs/how-to/backfill-bsky.md").db.count("record") > 0);
}

#[test]
fn the_guide_to_installing_works_as_written() {
    works("docs/how-to/installing.md");
}

#[test]
fn every_page_with_commands_to_run_is_run() {
    for page in pages() {
        let runs = blocks(&page).iter().any(|block| block.mark != Mark::Parse);
        assert_eq!(runs, RUN.contains(&page.as_str()), "{page}");
    }
}
