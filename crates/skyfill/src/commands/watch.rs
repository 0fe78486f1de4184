//! What a command prints for the milestones and findings of its engine.

use crate::told;
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
    /// Whether what earlier commands were told is forgotten.
    pub(crate) forget: bool,
}

impl Observer for Watch<'_> {
    fn reached(&self, milestone: Milestone) -> Result<(), Failure> {
        match milestone {
            Milestone::Accepted => return told::remember(self.database, self.forget),
            Milestone::ReposAdded => told::done(&[
                "did_file",
                "did",
                "handle",
                "followed_by",
                "hops",
                "list",
                "most_accounts",
            ]),
            Milestone::Discovered => return told::used_up(self.database, &DISCOVERY),
            Milestone::FailuresReopened => told::done(&["retry_failed"]),
            Milestone::RunBegun { is_new } => {
                told::done(&["mode", "now", "collections", "notifications", "since"]);
                // The run before it, which this command may have ended, took along what goes with a
                // run.
                if is_new {
                    return told::remember(self.database, false);
                }
            }
            Milestone::AccountsMarked => told::done(&["recheck", "retry", "dids"]),
        }
        Ok(())
    }

    fn found(&self, finding: &Finding) {
        observe::data!("{}", finding.json());
    }
}
