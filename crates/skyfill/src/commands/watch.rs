//! What a command prints for the milestones and findings of its engine.

use crate::command_line::command_line;
use engine::{Milestone, Observer};
use process::{Database, Failure};
use verify::Finding;

/// Options that say where to look for repos.
const DISCOVERY: [&str; 6] = [
    "discover",
    "relay_repos",
    "pds",
    "pds_file",
    "plc_export",
    "collection",
];

/// A command that watches its engine.
pub(crate) struct Watch<'w> {
    pub(crate) database: &'w Database,
    /// Whether the options that earlier commands stored are forgotten.
    pub(crate) forget: bool,
}

impl Watch<'_> {
    /// Stores the options of this command for later ones.
    pub(crate) fn store(&self) -> Result<(), Failure> {
        command_line().store(self.database, self.forget)
    }
}

impl Observer for Watch<'_> {
    fn reached(&self, milestone: Milestone) -> Result<(), Failure> {
        let line = command_line();
        match milestone {
            Milestone::Accepted => return self.store(),
            Milestone::ReposAdded => line.on_effective(&[
                "did_file",
                "did",
                "handle",
                "followed_by",
                "hops",
                "list",
                "most_accounts",
            ]),
            Milestone::Discovered => return line.on_used_up(self.database, &DISCOVERY),
            Milestone::FailuresReopened => line.on_effective(&["retry_failed"]),
            Milestone::RunBegun { is_new } => {
                line.on_effective(&["mode", "now", "collections", "notifications", "since"]);
                // The run before it, which this command may have ended, took along what goes with a
                // run.
                if is_new {
                    return line.store(self.database, false);
                }
            }
            Milestone::AccountsMarked => line.on_effective(&["recheck", "retry", "dids"]),
        }
        Ok(())
    }

    fn found(&self, finding: &Finding) {
        observe::data!("{}", finding.json());
    }
}
