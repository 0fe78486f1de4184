//! Whether a program accepts what a page has it do: skyfill's commands are parsed, make's targets
//! and the project's scripts are looked up, and all other programs are on a list.

use super::{blocks, commands, pages, root, text_of};
use std::fs;

/// Programs and words of the shell that pages use, beside skyfill, make and scripts.
const OTHERS: &[&str] = &[
    "cargo",
    "cd",
    "createdb",
    "do",
    "done",
    "duckdb",
    "head",
    "jq",
    "kill",
    "mkdir",
    "nats-server",
    "openssl",
    "psql",
    "sha256sum",
    "sleep",
    "sort",
    "ssh",
    "until",
    "wait",
];

/// What pages do with sudo.
const AS_ROOT: &[&str] = &["-u", "apt-get", "journalctl", "systemctl", "tar"];

/// How a caller judges what this crate cannot.
pub struct Judges<'j> {
    /// Why skyfill does not accept a command.
    pub skyfill: &'j dyn Fn(&[String]) -> Option<String>,
    /// Why a text is not a connection string.
    pub connection: &'j dyn Fn(&str) -> Option<String>,
}

impl Judges<'_> {
    /// Why a command is not accepted.
    fn fault(&self, command: &[String]) -> Option<String> {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let is_good = match words.as_slice() {
            ["skyfill", ..] => return (self.skyfill)(command),
            ["export", assigned @ ..] => {
                let texts = assigned
                    .iter()
                    .filter_map(|text| text.strip_prefix("BSKY_DB_POSTGRES_URL="));
                // A service would need its file.
                return texts
                    .filter(|text| !text.starts_with("service="))
                    .find_map(self.connection);
            }
            ["make", target, ..] => is_target(target),
            ["docker", "compose", "-f", file, ..] => root().join(file).exists(),
            ["sudo", program, ..] => AS_ROOT.contains(program),
            [script, ..] if script.starts_with("scripts/") => root().join(script).exists(),
            [program, ..] => OTHERS.contains(program),
            [] => true,
        };
        (!is_good).then(|| "no test knows it".to_owned())
    }
}

/// Checks every command in a block of a page; how many there are.
pub fn check_blocks(judges: &Judges<'_>) -> usize {
    let mut count = 0;
    for page in pages() {
        for block in blocks(&page) {
            for command in commands(&block.text) {
                // The beginning of a line that the practice network prints.
                if command.iter().any(|word| word == "...") {
                    continue;
                }
                if let Some(fault) = judges.fault(&command) {
                    panic!("{page}:{}: {command:?}: {fault}", block.line);
                }
                count += 1;
            }
        }
    }
    count
}

/// The commands of skyfill in sentences, such as `skyfill status`, with their pages. Those with a
/// mark of punctuation stand for several.
#[must_use]
pub fn in_sentences() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for page in pages() {
        let text = text_of(&page);
        let without_blocks: String = text.split("```").step_by(2).collect();
        for span in without_blocks.split('`').skip(1).step_by(2) {
            let words: Vec<String> = span.split_whitespace().map(str::to_owned).collect();
            let is_one = !span.contains(['|', '.', '<', '=']) && !span.contains("COMMAND");
            if words.len() > 1 && words[0] == "skyfill" && is_one {
                found.push((page.clone(), words));
            }
        }
    }
    found
}

/// Checks that what CONTRIBUTING.md names is there: targets of make, and modules of the suite.
pub fn check_proofs_of_claims() {
    let page = text_of("CONTRIBUTING.md");
    let suite = text_of("crates/skyfill/tests/suite/main.rs");
    let after = |before: &str| -> Vec<String> {
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let names = page.split(before).skip(1).map(|rest| {
            let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
            rest[..end].to_owned()
        });
        names.filter(|name| !name.is_empty()).collect()
    };
    let (modules, targets) = (
        after("--test suite "),
        [after("    make "), after("`make ")].concat(),
    );
    assert!(
        modules.len() > 10 && targets.len() > 5,
        "{modules:?} {targets:?}"
    );
    for name in modules {
        assert!(suite.contains(&format!("\nmod {name};")), "{name}");
    }
    for name in targets {
        assert!(is_target(&name), "make {name}");
    }
}

fn is_target(name: &str) -> bool {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    makefile.contains(&format!("\n{name}: "))
}
