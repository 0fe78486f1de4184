//! The arguments of `skyfill status` and `skyfill report`.

use crate::{DatabaseArgs, values};
use clap::Args;
use std::path::PathBuf;

/// Hosts that are shown unless somebody wants another number.
const HOSTS: &str = "10";

/// Reports how far a run has come, and what the database holds.
///
/// It reads the ledger alone, so it works while a run works, after it was stopped, and from another
/// machine. It says who works and since when, how far and how fast, what limits, which hosts have
/// the most to do, and what a restart would do. The verdict is that of the last comparison with the
/// commits. The exit code is 0 if it is "complete" (with --failed: if no repo is failed), else 1.
/// docs/reference/status.md explains the fields of --json.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill status
  skyfill status --watch
  skyfill status --failed                          # why repos failed, and what helps
  skyfill status --hosts all
  skyfill status --host morel.us-east.host.bsky.network
  skyfill status --did did:plc:z72i7hdynmk6r22z27h6tvur
  skyfill status --json")]
pub struct StatusArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Hosts to show, those with the most to do first: a number, or all
    #[arg(long, value_name = "N", default_value = HOSTS, num_args = 0..=1, default_missing_value = "all", value_parser = hosts)]
    pub hosts: i64,
    /// Show it again every few seconds until stopped [seconds, 2 if none are given]
    #[arg(long, value_name = "S", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400), conflicts_with_all = ["host", "did", "failed"])]
    pub watch: Option<u64>,
    /// Show one host: what it gave, what was learned of it, why its repos failed
    #[arg(long, value_name = "NAME", conflicts_with_all = ["did", "failed"])]
    pub host: Option<String>,
    /// Show one account: its repo, its proof, its identity, its last error
    #[arg(long, value_name = "DID", value_parser = values::did, conflicts_with = "failed")]
    pub did: Option<String>,
    /// Show failed repos by reason, with examples and what helps
    #[arg(long)]
    pub failed: bool,
    /// Print as JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// Writes a page about a run, to keep.
///
/// One file of HTML that needs no network: what was loaded, by collection, month and host; how long
/// each phase took and what limited it; rates over time; failures by reason; the proof; the sizes
/// of tables and indexes; settings and versions. It is about the run that is not done, else the
/// last one. Records by collection and month are counted up to two million, and estimated from a
/// sample beyond that.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  skyfill report
  skyfill report -o run-1.html
  skyfill report --json | jq .phases")]
pub struct ReportArgs {
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// File to write, or - for stdout
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "skyfill-report.html"
    )]
    pub output: PathBuf,
    /// Print the data as JSON on stdout instead
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

fn hosts(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(i64::MAX);
    }
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| "expected a number or all".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use engine::status::help;

    /// What helps against a failure is an option or a command that there is.
    #[test]
    fn what_helps_exists() {
        let root = crate::Cli::command();
        let of_run: Vec<String> = root
            .find_subcommand("run")
            .expect("it is one")
            .get_arguments()
            .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
            .collect();
        for (code, helps) in help::KNOWN {
            let words = helps.split(|c: char| !c.is_ascii_lowercase() && c != '-');
            for word in words.filter(|word| word.starts_with("--")) {
                assert!(of_run.iter().any(|long| long == word), "{code}: {word}");
            }
        }
    }
}
