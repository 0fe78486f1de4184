//! What a run is going to take: two lines at its beginning, and a refusal where the disk is clearly
//! too small.

use crate::estimates::{self, Server};
use crate::identities::HandleMode;
use crate::run::session::Session;
use plan::page::Page;
use plan::{Choice, Costs, Handles, Inputs, Plan, Work};
use process::{Failure, Machine};

/// Pending repos from which on a run is large: less says too little of what repos hold on average.
const LARGE: u64 = 10_000;

/// What is known of a run when it begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate {
    /// Whether accounts or parts of repos were chosen.
    pub(crate) is_chosen: bool,
    /// Whether only a part of each repo is stored.
    pub(crate) is_part: bool,
    /// Whether notifications are stored.
    pub(crate) notifies: bool,
    /// Whether a disk that is too small is no reason to stop.
    pub(crate) is_forced: bool,
}

impl Estimate {
    /// What is pending, if it is much or was chosen. Unless requests `were_sent`, a disk that is
    /// clearly too small stops the run.
    pub(crate) fn of_pending(
        mut self,
        session: &Session<'_>,
        were_sent: bool,
    ) -> Result<(), Failure> {
        self.is_forced |= were_sent;
        let database = session.database;
        let mut client = database.connect()?;
        let work = estimates::of_ledger(&mut client, &database.schema)
            .map_err(|error| database.failure(error))?;
        let Some(work) = work.filter(|work| work.repos >= LARGE || self.is_chosen) else {
            return Ok(());
        };
        let is_large = work.repos >= LARGE;
        let plan = self.log(session, work)?;
        if is_large && !self.is_part {
            require_room(&plan, self.is_forced)?;
        }
        Ok(())
    }

    /// Before discovery looks for all repos of the network: what those are going to take.
    pub(crate) fn of_full_network(self, session: &Session<'_>) -> Result<(), Failure> {
        let plan = self.log(session, Work::full_network())?;
        if self.is_part {
            return Ok(());
        }
        require_room(&plan, self.is_forced)
    }

    fn log(self, session: &Session<'_>, work: Work) -> Result<Plan, Failure> {
        let costs = Costs::committed();
        let plan = Plan::of(&costs, &self.inputs(session, work)?);
        let page = Page {
            plan: &plan,
            costs: &costs,
            server: String::new(),
            settings: &[],
            folder: None,
            is_part: self.is_part,
            notes: Vec::new(),
        };
        for line in page.two_lines() {
            observe::log!("{line}");
        }
        Ok(plan)
    }

    fn inputs(self, session: &Session<'_>, work: Work) -> Result<Inputs, Failure> {
        let (database, options) = (session.database, session.options);
        let mut client = database.connect()?;
        let server = Server::of(&mut client).map_err(|error| database.failure(error))?;
        let cores = Machine::this().cores;
        let rate = options.directory.plc_pace.most();
        let sizes = estimates::sizes(cores, &options.scale, server, options.documents, rate);
        let choice = Choice {
            handles: handles(options.handles),
            verifies: options.verifies,
            notifies: self.notifies,
        };
        let is_full = work.basis == plan::Basis::FullNetwork;
        let mut inputs = estimates::inputs(database, &mut client, work, sizes, choice)?;
        if is_full {
            // What is loaded already is a part of it.
            let used = database.room(&mut client)?.used;
            let free = &mut inputs.machine.free;
            *free = free.map(|free| free.saturating_add(used));
        }
        Ok(inputs)
    }
}

/// Stops a run whose disk is clearly too small for what it is going to store.
fn require_room(plan: &Plan, is_forced: bool) -> Result<(), Failure> {
    let (true, Some(free)) = (plan.clearly_lacks_disk(), plan.inputs.machine.free) else {
        return Ok(());
    };
    let needs = observe::bytes(whole_bytes(plan.disk.at_once()));
    let free = observe::bytes(free);
    if is_forced {
        observe::log!(
            "note: the disk of the database has {free} free, and the load needs about {needs}"
        );
        return Ok(());
    }
    Err(Failure::new(format!(
        "the disk of the database has {free} free, and the load needs about {needs}"
    ))
    .hint_to_run(
        "nothing was requested yet; use a larger disk, load a part (--collections, --notifications none), or begin all the same with --force; what takes how much",
        "plan",
    ))
}

/// What is done about handles, as a plan has it.
#[must_use]
pub fn handles(mode: Option<HandleMode>) -> Handles {
    match mode {
        Some(HandleMode::Auto) => Handles::Auto,
        Some(HandleMode::Verified) => Handles::Verified,
        Some(HandleMode::Claimed) => Handles::Claimed,
        None => Handles::Skipped,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole_bytes(bytes: f64) -> u64 {
    bytes.max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_clearly_too_small_stops_a_run_unless_that_is_forced() {
        let mut inputs = Inputs::example();
        let costs = Costs::committed();
        let plan = Plan::of(&costs, &inputs);
        let refused = require_room(&plan, false).expect_err("a TiB is too little");
        assert!(
            refused.message().contains("has 1.0 TiB free"),
            "{refused:?}"
        );
        assert!(require_room(&plan, true).is_ok());
        for free in [None, Some(1 << 47)] {
            inputs.machine.free = free;
            assert!(require_room(&Plan::of(&costs, &inputs), false).is_ok());
        }
    }
}
