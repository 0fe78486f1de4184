//! A producer's connection in the framed form: turns parts into chunks, and responds to each part
//! once it is durable.
//!
//! Nothing is acknowledged from memory. If a part is lost on the way to the database, the
//! connection ends. The producer then reconnects, and sends what was not acknowledged.

mod answers;
mod disconnect;
mod encoder;
mod kept;
mod peer;
mod reader;
mod store;

pub(crate) use answers::Answers;
pub(crate) use disconnect::Disconnect;
pub(crate) use encoder::PartEncoder;
pub(crate) use kept::{KeptPart, WholePart};
pub(crate) use reader::{IDLE, LONGEST_WAIT, read};
pub(crate) use store::{PartLimits, PartStore};
