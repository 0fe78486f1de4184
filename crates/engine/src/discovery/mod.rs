//! Discovery: a pass over hosts, relays and directories, compared with the ledger page by page.
//!
//! [`hosts`] lists each host, [`relay`] is what relays are asked, [`plc`] reads the PLC export,
//! [`settle`] asks the DID documents of accounts that two hosts claim or none does; [`pass`] is all
//! of it in order. Pages are fetched by tasks, each host at its pace, and stored by the calling
//! thread, in the order in which they come, each with the cursor after it.

mod context;
mod hosts;
mod known;
mod pass;
mod plc;
mod race;
pub(crate) mod relay;
mod settle;
mod source;

pub use context::Discovery;
pub(crate) use context::list_client;
pub use known::write_did_file;
pub use pass::Pass;
pub use source::Source;
