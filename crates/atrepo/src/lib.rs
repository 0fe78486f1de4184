#![doc = include_str!("../README.md")]
//!
//! ## Terms
//!
//! A repo travels as a CAR v1 file: a header that names the commit, then blocks in any order. A
//! block is named by its CID, the hash of its bytes. The commit names the root of a Merkle search
//! tree (MST), whose entries map `collection/rkey` to the CID of a record. Records, nodes and the
//! commit are DAG-CBOR. See <https://atproto.com/specs/repository> and
//! <https://ipld.io/specs/transport/car/carv1/>.
//!
//! ## Rules of this crate
//!
//! Every length that comes from outside is checked before use, nothing recurses on outside depth,
//! and no input causes a panic: unwrapping, indexing and unchecked arithmetic are denied by lints.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod base58;
mod car;
pub mod cbor;
mod cid;
mod commit;
mod error;
mod limits;
pub mod mst;
mod mst_builder;
mod repo;
pub mod sync;
pub mod syntax;
mod varint;
#[doc(hidden)]
pub mod work;

pub use car::{BlockIndex, Blocks, index_bytes};
pub use cid::{Cid, Codec, Link};
pub use commit::Commit;
pub use error::{RecordError, RepoError};
pub use limits::{
    LEAST_SECTION_BYTES, MAX_BLOCKS, MAX_COMMIT_BYTES, MAX_HEADER_BYTES, MAX_NODE_BYTES, MAX_OPS,
    MAX_RECORD_BYTES, MAX_SECTION_BYTES, MAX_SLICE_BYTES, SHARED_TIMES,
};
pub use mst_builder::RootBuilder;
pub use repo::{Entry, Repo, RepoSize, RepoSummary};
