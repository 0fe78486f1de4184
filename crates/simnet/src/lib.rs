//! A network to practise on: repos made from a seed, with the mix and the sizes of real ones
//! ([`Population`]) or with everything in each other's way ([`Tangle`]), and the input that hostile
//! hosts send ([`hostile`]). What serves them on loopback: one PDS that does as it is told, with
//! DID documents and handles beside it ([`Server`]); a DNS server ([`Dns`]); a whole network of
//! PDSes, PLC directory and relay, with faults on demand ([`Network`]).
//!
//! Commits are signed with keys that follow from the DIDs, so that everybody can sign.

mod answer;
mod dns;
mod document;
pub mod hostile;
mod keys;
mod lines;
mod network;
mod random;
mod records;
mod repo;
mod request;
mod server;
mod tangle;
mod tree;

pub use answer::{Answer, Gate};
pub use dns::Dns;
pub use document::document;
pub use keys::{sign, sign_with, signing_key, signing_key_of};
pub use lines::{append_lines, write_lines};
pub use network::{
    Burst, Expected, Fault, HostCounts, Limit, Live, LiveSettings, Network, NetworkSettings, Pace,
    Playing, StreamFault,
};
pub use random::Random;
pub use records::{Mix, Population};
pub use repo::{build_car, build_commit, build_proof, build_repo};
pub use server::Server;
pub use tangle::Tangle;
pub use tree::{Changed, Tree, Write};
