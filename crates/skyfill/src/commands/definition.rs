//! What is made from the definitions in `arguments`: `skyfill completions` and `skyfill man-pages`
//! for packages, and docs/reference/commands.md.

use arguments::{Cli, CompletionsArgs, ManPagesArgs};
use clap::CommandFactory;
use process::{Ended, Failure};

/// Prints the completions for a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Ended, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "skyfill", &mut script);
    observe::data!("{}", String::from_utf8_lossy(&script).trim_end());
    Ok(Ended::Well)
}

/// Writes `skyfill.1`, `skyfill-run.1` and so on.
pub(crate) fn man_pages(args: &ManPagesArgs) -> Result<Ended, Failure> {
    std::fs::create_dir_all(&args.folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &args.folder))
        .map_err(|error| {
            let folder = args.folder.display();
            Failure::new(format!("cannot write the man pages to {folder}: {error}"))
        })?;
    Ok(Ended::Well)
}

/// Prints docs/reference/commands.md.
pub(crate) fn reference() -> Result<Ended, Failure> {
    observe::data!("{}", reference::page(Cli::command()).trim_end());
    Ok(Ended::Well)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_current() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/commands.md"
        );
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == reference::page(Cli::command()),
            "docs/reference/commands.md is stale: run `make reference`"
        );
    }
}
