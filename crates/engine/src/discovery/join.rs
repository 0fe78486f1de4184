//! Joining the pass of another process: of several workers, one lists the hosts, the others load
//! what it finds. When it dies, one of the others continues its pass.

use crate::discovery::context::{Beside, Discovery};
use ledger::listing;
use ledger::locks::{self, Hold, Lock};
use ledger::workers;
use observe::log;
use process::Failure;
use std::time::Duration;

/// It is looked this often whether the other process has ended its pass.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What came of the pass of another process.
pub(crate) enum Joined {
    /// There is none, or its process is gone: a pass is to be begun or continued here.
    No,
    /// It came to its end.
    Ended(i64),
    /// This process was stopped.
    Stopped,
}

impl Discovery<'_> {
    /// Waits for a pass over the same source, `over`, that another process has under way, if one
    /// has. In a run that others load already, a pass that has ended is not begun once more.
    pub(crate) fn join(&self, beside: Beside<'_>, over: &str) -> Result<Joined, Failure> {
        let schema = &self.database.schema;
        let mut client = self.database.patient(self.stop);
        if client.run(|client| workers::any_loads(client, schema))?
            && let Some(id) = client.run(|client| listing::ended_in_run(client, schema, over))?
        {
            log!("pass {id} of discovery has ended in this run; its repos are loaded");
            beside.arrivals.join();
            return Ok(Joined::Ended(id));
        }
        let last = client.run(|client| listing::last_ended(client, schema, over))?;
        let mut has_joined = false;
        loop {
            let is_free = client.run(|client| {
                let is_free = locks::try_acquire(client, Lock::Passes, Hold::Session)?;
                if is_free {
                    locks::unlock(client, Lock::Passes)?;
                }
                Ok::<bool, postgres::Error>(is_free)
            })?;
            if is_free {
                break;
            }
            if !has_joined {
                log!("another skyfill looks for repos; what it finds is loaded here, too");
                beside.arrivals.join();
                has_joined = true;
            }
            if !self.stop.waits().sleep(LOOK_EVERY) {
                return Ok(Joined::Stopped);
            }
        }
        if !has_joined {
            return Ok(Joined::No);
        }
        let now = client.run(|client| listing::last_ended(client, schema, over))?;
        Ok(
            match now.filter(|id| now != last && last.is_none_or(|last| *id > last)) {
                Some(id) => Joined::Ended(id),
                None => {
                    log!("the skyfill that looked for repos is gone; its pass is continued here");
                    Joined::No
                }
            },
        )
    }
}
