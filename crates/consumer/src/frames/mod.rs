//! The framed form: whole parts of repos to chunks, and an answer for each part when it is durable.
//!
//! A reader ([`read`]) collects the entries of a part in a `spool` until the part is whole. An
//! `encoder` turns whole parts into chunks of rows, which the loading threads store as those of a
//! run. The [`PartStore`] knows which producer (`peer`) waits for which answer.
//!
//! Nothing is acknowledged from memory. A part that was lost on the way to the database ends the
//! connection: the producer reconnects and sends again what was not acknowledged.

mod disconnect;
mod encoder;
mod peer;
mod reader;
mod spool;
mod store;

pub(crate) use reader::read;
pub(crate) use store::{PartLimits, PartStore};
