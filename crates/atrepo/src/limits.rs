//! What a repo may have at most. Real repos are far below; see each limit for its source.

/// Largest header that is read; real headers have about 60 bytes.
pub const MAX_HEADER_BYTES: u64 = 4096;

/// Largest section that is read. It is far above [`crate::MAX_RECORD_BYTES`], because a record that
/// is too large costs that record, not its repo: it is hashed but never parsed. A length above this
/// limit is not the length of any block.
pub const MAX_SECTION_BYTES: u64 = 256 << 20;

/// Maximum number of sections in a CAR: their index then uses 320 MiB. A repo of 2 GB has about
/// half as many.
pub const MAX_BLOCKS: usize = 16 << 20;

/// Minimum size of a section, on average over a CAR. Length and CID take 37 bytes, so a CAR with
/// smaller sections consists of empty or tiny blocks that nothing refers to, or of the same blocks
/// repeated.
pub const LEAST_SECTION_BYTES: usize = 40;

/// Largest commit block that is read. Real ones have 200 to 300 bytes. A DID may have 2,048 bytes,
/// and the rest of the six fields has about 250. The specification allows fields of later versions,
/// so those are accepted as long as they fit.
pub const MAX_COMMIT_BYTES: usize = 4096;

/// Largest node that is read. Real ones have some hundred bytes and four entries on average. A walk
/// holds the entries of a node for each level of the tree, so this bounds its memory. It is
/// the limit of records.
pub const MAX_NODE_BYTES: usize = 1 << 20;

/// Largest record that is read; a larger one is skipped.
///
/// The sync specification bounds a record block at one million bytes
/// (<https://atproto.com/specs/sync>). The official Go code, which the relay runs, bounds it at 1
/// MiB (`MAX_CBOR_RECORD_SIZE` in indigo's `atproto/data/const.go`). This is the larger of the two,
/// so that whatever passed a relay is read. The official indexer has no limit of its own, but gets
/// its records through one.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// Maximum total size of the records, as a multiple of the size of the CAR.
///
/// One block can be the record of many keys, and is then read once for each. Where no block is
/// shared, the records are smaller than the CAR. The factor allows for honest repos that repeat
/// themselves. Records beyond it, in the order of keys, are skipped.
pub const SHARED_TIMES: usize = 4;

/// Largest slice of a repo that comes with a commit event: the hard limit of the sync
/// specification, 2 million bytes (<https://atproto.com/specs/sync>; `maxLength` of `blocks` in
/// `lexicons/com/atproto/sync/subscribeRepos.json`; `MaxMessageBlocksBytes` in indigo's
/// `cmd/relay/relay/verify.go`).
pub const MAX_SLICE_BYTES: usize = 2_000_000;

/// Maximum number of operations of a commit event (`maxLength` of `ops` in the same lexicon;
/// `MaxCommitOps` in the same file of indigo).
pub const MAX_OPS: usize = 200;
