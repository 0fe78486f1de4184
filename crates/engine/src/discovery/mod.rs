//! Discovery: a pass over hosts, relays and directories, compared with the ledger page by page.
//!
//! `hosts` lists each host, `relay` sends the requests to relays, `plc` reads the PLC export,
//! `settle` reads the DID documents of accounts that two hosts list or that have no host, and
//! `pass` runs all of it in order. Tasks fetch pages, each at its host's pace. The calling thread
//! stores them in the order in which they arrive, each with the cursor after it. A load may run
//! beside the pass: `arrivals` tells it what was stored, and both ask each host at one pace.

pub(crate) mod arrivals;
mod context;
mod hosts;
mod join;
mod known;
mod pass;
mod plc;
mod race;
pub(crate) mod relay;
mod settle;
mod source;

pub use context::Discovery;
pub(crate) use context::{Beside, MAX_PAGE, list_client};
pub use known::write_did_file;
pub use pass::Pass;
pub(crate) use source::relay_of_last_run;
pub use source::{PUBLIC_RELAY, Source, base_url, opt_out, urls_of_file};
