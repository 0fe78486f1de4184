//! Archives of CARs: fetched repos are kept, so that a second load needs no network.
//!
//! An archive lies in a folder or in an object store ([`Place`]). Its repos lie in segments, files
//! of CARs end to end, each CAR a zstd frame of its own. The index of a segment names for every CAR
//! its DID, PDS, rev, root, offset, lengths and hash (`line`). A segment is only ever added to or
//! removed as a whole.
//!
//! - In a folder (`folder`) skyfill appends to the files `NNNNNN.cars.zst` and to one index for
//!   all of them, `index.jsonl`. It writes a line of the index once the CAR is in the file, so that
//!   a crash damages only the ends, which are left out when the archive is opened.
//! - In an object store (`objects`) nothing can be appended to. `NAME.cars.zst` is uploaded in
//!   parts, and `NAME.index.zst` is created once the whole of it is there. Without its index a
//!   segment is not part of the archive. Names are drawn by each writer, and an index is never
//!   overwritten, so writers cannot harm each other.
//!
//! Either form is read in either place, so that an archive can be copied by any tool. Plain `.car`
//! files that another program made are an archive as well: the DID and the rev of each are those of
//! its commit.
//!
//! [`Archive`] reads, [`ArchiveWriter`] adds, [`Check`] proves an archive by itself, [`rewrite`]
//! merges and prunes.

mod catalog;
mod check;
mod error;
mod explain;
mod folder;
mod frame;
mod in_order;
mod line;
mod objects;
mod place;
mod read;
pub mod rewrite;
mod runs;
mod segment;
mod source;
mod write;

pub use check::{Check, Checked, Fault, Finding};
pub use error::ArchiveError;
pub use in_order::InOrder;
pub use place::{Access, Place};
pub use read::{Account, Archive, OpenOptions};
pub use write::ArchiveWriter;

/// The end of a segment's name.
const SEGMENT: &str = ".cars.zst";
/// The end of the name of a segment's index, in an object store.
const INDEX: &str = ".index.zst";
/// The object that says what is below a prefix.
const ABOUT: &str = "archive.json";
/// The index of all segments of a folder.
const FOLDER_INDEX: &str = "index.jsonl";
/// The end of a plain CAR's name.
const CAR: &str = ".car";
/// A fast level; a CAR consists mostly of hashes, which do not compress.
const LEVEL: i32 = 3;
