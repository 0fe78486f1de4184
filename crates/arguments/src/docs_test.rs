//! Every command in README.md and docs/ is one that its program accepts. Most are run as well
//! (`tests/suite/docs.rs`).

use super::Cli;
use clap::Parser;
use clap::error::ErrorKind;
use testbed::pages::{Judges, check_blocks, check_proofs_of_claims, in_sentences};

#[test]
fn every_command_in_the_docs_is_accepted() {
    let skyfill = |command: &[String]| {
        let error = Cli::try_parse_from(command).err()?;
        error.use_stderr().then(|| error.to_string())
    };
    let connection = |text: &str| {
        let servers = pg::Settings::of(text).and_then(|settings| settings.servers());
        servers.err().map(|error| error.to_string())
    };
    let count = check_blocks(&Judges {
        skyfill: &skyfill,
        connection: &connection,
    });
    assert!(count > 100, "{count} commands");
}

#[test]
fn every_command_in_a_sentence_is_known() {
    let commands = in_sentences();
    assert!(commands.len() > 20, "{commands:?}");
    for (page, command) in commands {
        // What it needs may be left out.
        if let Err(error) = Cli::try_parse_from(&command)
            && matches!(
                error.kind(),
                ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand
            )
        {
            panic!("{page}: {command:?}\n{error}");
        }
    }
}

#[test]
fn every_proof_of_a_claim_is_there() {
    check_proofs_of_claims();
}
