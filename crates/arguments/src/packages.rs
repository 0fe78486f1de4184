//! Arguments of the commands that make what packages install.

use clap::Args;
use std::path::PathBuf;

/// Prints the completions of commands and options for a shell.
///
/// Packages install them. Otherwise, save them where your shell looks for completions.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill completions bash > ~/.local/share/bash-completion/completions/skyfill
  skyfill completions fish > ~/.config/fish/completions/skyfill.fish")]
pub struct CompletionsArgs {
    /// Shell that reads them
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub struct ManPagesArgs {
    /// Folder to write them to; it is created if it is missing
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}
