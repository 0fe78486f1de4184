//! Every `skyfill` command in README.md, CONTRIBUTING.md and docs/ is one that skyfill accepts.

use super::Cli;
use clap::Parser;
use std::fs;
use testbed::pages::{code, commands, pages};

#[test]
fn every_command_in_the_docs_is_accepted() {
    let mut count = 0;
    for page in pages() {
        for line in code(&fs::read_to_string(&page).unwrap()) {
            for command in commands(&line) {
                let is_ours = command.first().is_some_and(|word| word == "skyfill");
                if !is_ours || command.len() < 2 || command.iter().any(|word| word == "...") {
                    continue;
                }
                count += 1;
                if let Err(error) = Cli::try_parse_from(&command)
                    && error.use_stderr()
                {
                    panic!("{}: {line}\n{error}", page.display());
                }
            }
        }
    }
    assert!(count > 50, "{count} commands");
}
