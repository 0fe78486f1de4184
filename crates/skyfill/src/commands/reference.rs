//! Prints docs/reference/commands.md, from the definitions in `cli`.

use crate::cli::Cli;
use clap::CommandFactory;
use process::{Ended, Failure};

pub(crate) fn run() -> Result<Ended, Failure> {
    observe::data!("{}", page().trim_end());
    Ok(Ended::Well)
}

fn page() -> String {
    reference::page(Cli::command())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_page_in_docs_is_current() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/commands.md"
        );
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == super::page(),
            "docs/reference/commands.md is stale: run `make reference`"
        );
    }
}
