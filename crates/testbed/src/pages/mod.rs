//! The commands in the pages of the project (README.md and docs/), and what tests do with them.
//!
//! Commands stand in fenced blocks whose language is `sh`. The word after the language says how a
//! test treats the block:
//!
//! | mark | what a test does |
//! |---|---|
//! | `run` | runs it; it must succeed. `run fresh` begins with a new database |
//! | `fails` | runs it; it must end with exit code 1 |
//! | `background` | runs it until the end of the page: the practice network |
//! | `paste` | runs the command that the practice network printed |
//! | `stop` | the same, and stops it when it has loaded |
//! | `parse: REASON` | only checks its words: what it needs is not there |
//!
//! A comment above a block, `<!-- test: A = B; C = D -->`, puts other words in the place of those
//! that only a reader can use; `$NAME` is a value that the test knows.

mod accepted;

pub use accepted::{Judges, check_blocks, check_proofs_of_claims, in_sentences};

use std::fs;
use std::path::{Path, PathBuf};

/// How a test treats a block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Runs it; it must succeed.
    Run {
        /// In a new database.
        fresh: bool,
    },
    /// Runs it; it must end with exit code 1.
    Fails,
    /// Runs it until the end of the page.
    Background,
    /// Runs the command that the practice network printed.
    Paste,
    /// Runs it as well, and stops it when it has loaded.
    Stop,
    /// Checks its words.
    Parse,
}

impl Mark {
    fn of(word: &str) -> Option<Self> {
        Some(match word.trim() {
            "run" => Self::Run { fresh: false },
            "run fresh" => Self::Run { fresh: true },
            "fails" => Self::Fails,
            "background" => Self::Background,
            "paste" => Self::Paste,
            "stop" => Self::Stop,
            word => {
                let reason = word.strip_prefix("parse:")?;
                return (!reason.trim().is_empty()).then_some(Self::Parse);
            }
        })
    }
}

/// A block of commands.
#[derive(Debug)]
pub struct Block {
    /// How a test treats it.
    pub mark: Mark,
    /// The number of its first line.
    pub line: usize,
    /// Its commands.
    pub text: String,
    /// Words and what a test puts in their place.
    pub instead: Vec<(String, String)>,
}

impl Block {
    /// Its commands as a test runs them, with `value` for each name.
    #[must_use]
    pub fn with(&self, value: impl Fn(&str) -> String) -> String {
        let mut text = self.text.clone();
        for (words, other) in &self.instead {
            assert!(
                text.contains(words),
                "line {}: {words} is not in it",
                self.line
            );
            let mut pieces = other.split('$');
            let mut words_instead = pieces.next().unwrap_or_default().to_owned();
            for piece in pieces {
                let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                let end = piece.find(|c| !is_name(c)).unwrap_or(piece.len());
                words_instead += &value(&piece[..end]);
                words_instead += &piece[end..];
            }
            text = text.replace(words, &words_instead);
        }
        text
    }
}

/// README.md and the pages of docs/, by their paths in the project.
#[must_use]
pub fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder of docs") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let path = path.strip_prefix(root()).expect("it is in the project");
                pages.push(path.display().to_string());
            }
        }
    }
    pages.sort();
    pages
}

/// The project's folder.
#[must_use]
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().expect("the project's folder")
}

/// The text of a page.
#[must_use]
pub fn text_of(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// The blocks of commands in a page, in order. Nothing is left out: a block without a language, a
/// block of commands without a mark, and a command in an indented block are faults of the page.
#[must_use]
pub fn blocks(page: &str) -> Vec<Block> {
    blocks_in(page, &text_of(page)).unwrap_or_else(|fault| panic!("{fault}"))
}

fn blocks_in(page: &str, text: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut instead = Vec::new();
    let mut open: Option<(String, usize, String)> = None;
    for (line, number) in text.lines().zip(1..) {
        let fault = |what: &str| Err(format!("{page}:{number}: {what}"));
        if let Some((info, first, commands)) = &mut open {
            if line.trim_end() != "```" {
                commands.push_str(line);
                commands.push('\n');
                continue;
            }
            if let Some(mark) = info.strip_prefix("sh") {
                let Some(mark) = Mark::of(mark) else {
                    return fault(&format!("no test knows what to do with ```{info}"));
                };
                blocks.push(Block {
                    mark,
                    line: *first,
                    text: std::mem::take(commands),
                    instead: std::mem::take(&mut instead),
                });
            }
            open = None;
        } else if let Some(info) = line.trim_start().strip_prefix("```") {
            if info.is_empty() {
                return fault("a block without a language");
            }
            if line != line.trim_start() {
                return fault("an indented fence");
            }
            open = Some((info.trim().to_owned(), number + 1, String::new()));
        } else if let Some(words) = line.strip_prefix("<!-- test: ") {
            instead = replacements(words.trim_end_matches("-->"));
        } else if line.starts_with("    ") && commands(line).iter().any(|words| is_command(words)) {
            return fault("a command outside a fenced block, where no test finds it");
        } else if !instead.is_empty() && !line.trim().is_empty() {
            return fault("a comment of the tests that stands above no block");
        }
    }
    Ok(blocks)
}

fn replacements(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(';').filter_map(|pair| pair.split_once(" = "));
    pairs
        .map(|(words, other)| (words.trim().to_owned(), other.trim().to_owned()))
        .collect()
}

/// Whether a line begins as a command does that the docs may name.
fn is_command(words: &[String]) -> bool {
    const PROGRAMS: &[&str] = &[
        "cargo", "curl", "docker", "export", "git", "make", "psql", "skyfill", "sudo",
    ];
    let first = words.first().map(String::as_str).unwrap_or_default();
    PROGRAMS.contains(&first) && words.len() > 1 || first.starts_with("scripts/")
}

/// The simple commands of a piece of shell, as words. Redirections and assignments are left out.
#[must_use]
pub fn commands(text: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut quote, mut is_word) = (String::new(), None, false);
    let mut chars = text.chars();
    let end_word = |word: &mut String, is_word: &mut bool, commands: &mut Vec<Vec<String>>| {
        if std::mem::take(is_word) {
            let command = commands.last_mut().expect("it begins with one");
            command.push(std::mem::take(word));
        }
    };
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '\'' | '"') => (quote, is_word) = (Some(c), true),
            (None, '\\') => {
                // A line goes on.
                if let Some(c) = chars.next().filter(|c| *c != '\n') {
                    word.push(c);
                    is_word = true;
                }
            }
            (None, '#') if !is_word => {
                chars.by_ref().find(|c| *c == '\n');
                commands.push(Vec::new());
            }
            (None, '|' | ';' | '&' | '(' | ')' | '\n') => {
                end_word(&mut word, &mut is_word, &mut commands);
                commands.push(Vec::new());
            }
            (None, c) if c.is_whitespace() => end_word(&mut word, &mut is_word, &mut commands),
            (None, c) => {
                word.push(c);
                is_word = true;
            }
        }
    }
    end_word(&mut word, &mut is_word, &mut commands);
    for command in &mut commands {
        if let Some(at) = command.iter().position(|word| word.contains('>')) {
            command.truncate(at);
        }
        while command.first().is_some_and(|word| word.contains('=')) {
            command.remove(0);
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shell_is_split_into_commands() {
        assert_eq!(
            commands(
                "A=1 skyfill run 'a b' > x & skyfill status # all | of it\npsql \\\n -c 'a\nb'"
            ),
            [
                vec!["skyfill", "run", "a b"],
                vec!["skyfill", "status"],
                vec!["psql", "-c", "a\nb"]
            ]
        );
    }

    #[test]
    fn no_block_is_left_out() {
        let good = "<!-- test: x = $X; yes = z -->\n\n```sh run\nskyfill x yes\n```\n\n    verdict: complete\n";
        let blocks = blocks_in("page", good).unwrap();
        assert_eq!(blocks[0].line, 4);
        assert_eq!(
            blocks[0].with(|name| name.to_lowercase() + "1"),
            "skyfill x1 z\n"
        );
        for bad in [
            "```sh\nskyfill run\n```\n",
            "```sh parse\nskyfill run\n```\n",
            "```\nskyfill run\n```\n",
            "    skyfill run\n",
            "<!-- test: x = y -->\n\nText\n",
        ] {
            assert!(blocks_in("page", bad).is_err(), "{bad}");
        }
    }
}
