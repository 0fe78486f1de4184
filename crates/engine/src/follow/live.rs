//! From a load to live: follows the stream, and lists all hosts first where events are lost.
//!
//! A load that takes longer than the relay keeps its events leaves a gap, and so does a process
//! that was away for days. Catching up closes it; the stream is followed from the position that the
//! relay had before.

use super::{Options, Summary, attempt};
use crate::catch_up::{self, CatchUpEnd};
use crate::run::{Session, phases};
use ledger::follow::begins_at;
use ledger::runs::{self, Phase};
use observe::registry;
use process::{Database, Failure};

/// Whether a load is done, and it is known where this relay's stream continues: nothing has to be
/// loaded before it is followed.
///
/// # Errors
/// The database cannot be used.
pub fn is_loaded(database: &Database, relay: &str) -> Result<bool, Failure> {
    let refused = |error| database.failure(error);
    let mut client = database.connect()?;
    let last = runs::last(&mut *client, &database.schema).map_err(refused)?;
    if last.is_none_or(|run| run.phase != Phase::Done) {
        return Ok(false);
    }
    let cursor = begins_at(&mut *client, &database.schema, relay).map_err(refused)?;
    Ok(cursor.is_some())
}

/// Follows the stream of the first relay until it is stopped. Where it is unknown which events are
/// missing, or the relay no longer has them, it catches up first.
///
/// # Errors
/// Nothing was loaded, the relay forgets events faster than catching up takes, or the database or
/// network cannot be used.
pub fn go_live(
    session: &Session<'_>,
    options: &Options,
    catch_up: &catch_up::Options,
) -> Result<Summary, Failure> {
    let relay = options.relays.first().map_or("", String::as_str);
    phases::plan(session.options, false);
    loop {
        let why = match is_loaded(session.database, relay)? {
            false => format!("it is unknown which events of {relay} are missing in the tables"),
            true => {
                registry().enter(phases::FOLLOWING.name);
                let (summary, lost) = attempt(session, options)?;
                match lost {
                    None => return Ok(summary),
                    Some(lost) => lost.to_string(),
                }
            }
        };
        observe::log!("{why}; all hosts are listed first");
        match catch_up::catch_up(session, catch_up)? {
            CatchUpEnd::Stopped => {
                return Ok(Summary {
                    relay: relay.to_owned(),
                    is_stopped: true,
                    ..Summary::default()
                });
            }
            CatchUpEnd::CaughtUp(caught_up) => {
                observe::log!("caught up: following {relay} after {}", caught_up.cursor);
            }
        }
    }
}
