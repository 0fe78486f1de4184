//! Arguments of every command about logging: what is logged, and where.

use clap::{ArgAction, Args, ValueEnum};
use observe::logging::{self, LoggingError};
use observe::view;
use process::Failure;
use std::path::PathBuf;

/// Options of logging.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// Show details with time, level and fields, such as why a repo failed; give it twice to show
    /// everything
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Show only warnings and errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// File to append log lines to, with details, time, level and fields
    #[arg(long, global = true, value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Form of log lines in the log file, or on stderr if there is none
    #[arg(long, global = true, value_name = "FORM", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object per line
    Json,
}

impl LogArgs {
    /// Begins to log.
    pub fn start(&self) -> Result<(), Failure> {
        let verbosity = match self.quiet {
            true => -1,
            false => i8::try_from(self.verbose).unwrap_or(i8::MAX),
        };
        if self.quiet {
            view::hide();
        }
        let filter = std::env::var("RUST_LOG").ok();
        let settings = logging::Settings {
            verbosity,
            filter: filter.filter(|filter| !filter.trim().is_empty()),
            file: self.log_file.clone(),
            format: self.log_format.map(|format| match format {
                LogFormat::Text => logging::Format::Text,
                LogFormat::Json => logging::Format::Json,
            }),
        };
        logging::start(&settings).map_err(|error| {
            // To report it, people's form will do.
            log_plainly();
            match error {
                LoggingError::File(..) => {
                    Failure::usage(error).hint("name a writable file with --log-file")
                }
                LoggingError::Filter(_) => Failure::usage(error)
                    .hint("give a level or a list, for example RUST_LOG=fetch=debug,warn"),
            }
        })
    }
}

/// Logs in people's form, if nothing was begun yet: for errors in what says how to log.
pub fn log_plainly() {
    // Without a file and a filter, nothing can fail.
    drop(logging::start(&logging::Settings::default()));
}
