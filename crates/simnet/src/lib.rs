//! A network to practise on: repos made from a seed, with the mix and the sizes of real ones ([`Population`]) or with everything in each
//! other's way ([`Tangle`]); a PDS on loopback that serves them, well or badly, and DID documents and handles beside them; a DNS server.
//!
//! Commits are signed with keys that follow from the DIDs, so that everybody can sign. The relay has its place here.

mod dns;
mod document;
mod keys;
mod lines;
mod random;
mod records;
mod repo;
mod server;
mod tangle;

pub use dns::Dns;
pub use document::document;
pub use keys::{sign, signing_key};
pub use lines::append_lines;
pub use random::Random;
pub use records::{Mix, Population};
pub use repo::{build_car, build_commit, build_repo};
pub use server::{Answer, Server};
pub use tangle::Tangle;
