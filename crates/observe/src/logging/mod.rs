//! Logging: what the crates report with `tracing` goes to the terminal in words for people, and to
//! a log file with time, level and fields.
//!
//! The terminal stays calm: a line is its message, an error or a warning says so in front, and
//! nothing below INFO is shown unless somebody asks for it (`-v`, `RUST_LOG`). A log file has
//! details as well (DEBUG): why a repo failed, a host was put off, a connection was made again.
//! Reports of dependencies are left out unless `RUST_LOG` names them.

mod event;
mod sink;

use event::Shape;
pub(crate) use event::now;
use sink::Sink;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The crates whose reports are shown. A test compares the list with the workspace.
const OURS: &[&str] = &[
    "appview",
    "archive",
    "arguments",
    "atrepo",
    "bench",
    "commandline",
    "conformance",
    "consumer",
    "dashboard",
    "discover",
    "doctor",
    "engine",
    "export",
    "fetch",
    "finalize",
    "fuzz_harness",
    "handoff",
    "identity",
    "ledger",
    "load",
    "nats",
    "observe",
    "pg",
    "pgbox",
    "plan",
    "process",
    "producer",
    "records",
    "reference",
    "report",
    "rows",
    "simnet",
    "skyfill",
    "testbed",
    "verify",
];

/// The form of a log for programs or people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines with time, level, origin, message and fields.
    #[default]
    Text,
    /// The same as JSON, one object per line.
    Json,
}

/// What is logged, and where to.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// 0 is what people want to know, 1 adds details and times, 2 adds all; below 0 only warnings
    /// and errors.
    pub verbosity: i8,
    /// A filter as in `RUST_LOG`; [`Settings::verbosity`] other than 0 wins on the terminal.
    pub filter: Option<String>,
    /// A file that lines are added to.
    pub file: Option<PathBuf>,
    /// The form of the file, or of stderr where there is no file; without it people's form on
    /// stderr, text in the file.
    pub format: Option<Format>,
}

/// Why there is no logging as it was asked for.
#[derive(Debug)]
pub enum LoggingError {
    /// The log file cannot be opened.
    File(PathBuf, io::Error),
    /// The filter is none.
    Filter(String),
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "log file {}: {error}", path.display()),
            Self::Filter(why) => write!(f, "RUST_LOG: {why}"),
        }
    }
}

impl std::error::Error for LoggingError {}

/// Begins to log; a second call in one process changes nothing. Panics are logged as errors from
/// then on.
///
/// # Errors
/// The log file cannot be opened, or the filter is none.
pub fn start(settings: &Settings) -> Result<(), LoggingError> {
    let file = settings.file.as_deref().map(open).transpose()?;
    let stderr_shape = match (&file, settings.format) {
        (None, Some(Format::Json)) => Shape::Json,
        (None, Some(Format::Text)) => Shape::Text,
        _ if settings.verbosity > 0 => Shape::Text,
        _ => Shape::People,
    };
    let file_shape = match settings.format {
        Some(Format::Json) => Shape::Json,
        Some(Format::Text) | None => Shape::Text,
    };
    let for_file = if settings.verbosity > 1 {
        "trace"
    } else {
        "debug"
    };
    let stderr = Sink::stderr(stderr_shape).with_filter(terminal_filter(settings)?);
    let file = match file {
        Some(file) => {
            let filter = settings
                .filter
                .as_deref()
                .map_or_else(|| Ok(ours(for_file)), parse)?;
            Some(Sink::file(file, file_shape).with_filter(filter))
        }
        None => None,
    };
    // Whoever logs already goes on.
    if Registry::default()
        .with(stderr)
        .with(file)
        .try_init()
        .is_ok()
    {
        crate::panics::report();
    }
    Ok(())
}

fn open(path: &Path) -> Result<File, LoggingError> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|error| LoggingError::File(path.to_owned(), error))
}

/// What the terminal shows: flags first, then the environment's filter.
fn terminal_filter(settings: &Settings) -> Result<EnvFilter, LoggingError> {
    match (settings.verbosity, &settings.filter) {
        (0, Some(filter)) => parse(filter),
        (0, None) => Ok(ours("info")),
        (1, _) => Ok(ours("debug")),
        (2.., _) => Ok(ours("trace")),
        (..0, _) => Ok(ours("warn")),
    }
}

fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LoggingError::Filter(error.to_string()))
}

/// Reports of skyfill's own crates from `level` on.
fn ours(level: &str) -> EnvFilter {
    let directives: Vec<String> = OURS.iter().map(|name| format!("{name}={level}")).collect();
    EnvFilter::new(format!("off,{}", directives.join(",")))
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_crate_of_the_workspace_is_heard_and_no_other() {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let manifest = std::fs::read_to_string(manifest).unwrap();
        let members = manifest.split_once("members = [").unwrap().1;
        let members = members.split_once(']').unwrap().0;
        let members = members.split('"').filter_map(|m| m.strip_prefix("crates/"));
        let mut names: Vec<String> = members.map(|name| name.replace('-', "_")).collect();
        names.sort_unstable();
        assert_eq!(names, OURS, "members in the root's Cargo.toml, and OURS");
    }

    #[test]
    fn a_filter_that_is_none_is_named() {
        let settings = Settings {
            filter: Some("fetch=loud".to_owned()),
            ..Settings::default()
        };
        let error = terminal_filter(&settings).unwrap_err();
        assert!(error.to_string().starts_with("RUST_LOG: "), "{error}");
        let settings = Settings {
            verbosity: -1,
            ..settings
        };
        assert!(terminal_filter(&settings).is_ok());
    }
}
