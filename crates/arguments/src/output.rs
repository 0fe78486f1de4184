//! Arguments about what a command prints while it works.

use super::ListenArgs;
use clap::{Args, ValueEnum};
use observe::view;
use std::time::Duration;

/// What to print.
#[derive(Args, Clone, Debug)]
pub struct OutputArgs {
    /// Time between progress lines [seconds]
    #[arg(long, value_name = "S", env = "LOGGING_INTERVAL", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400), help_heading = "Output")]
    pub logging_interval: u64,
    /// Print the summary as JSON on stdout
    #[arg(long, help_heading = "Output")]
    pub json: bool,
    /// How to show progress
    #[arg(
        long,
        value_name = "FORM",
        default_value = "auto",
        value_enum,
        help_heading = "Output"
    )]
    pub progress: ProgressForm,
    #[command(flatten)]
    pub dashboard: ListenArgs,
}

impl OutputArgs {
    /// Begins to show progress.
    pub fn show_progress(&self) {
        let form = match self.progress {
            ProgressForm::Auto => view::Form::Auto,
            ProgressForm::Plain => view::Form::Plain,
            ProgressForm::Json => view::Form::Json,
            ProgressForm::None => view::Form::None,
        };
        view::start(form, Duration::from_secs(self.logging_interval));
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProgressForm {
    /// A live view on a terminal, else plain lines.
    Auto,
    /// Lines on stderr.
    Plain,
    /// Events on stdout, one JSON object per line.
    Json,
    /// Nothing.
    None,
}
