//! DID caches as DID files.

use discover::did_cache::{self, CacheError, Entry};
use process::Failure;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::path::Path;

/// Bad entries that are named one by one; the rest are counted.
const NAMED: u64 = 20;
/// Bytes that are read and written at once.
const BUFFER: usize = 1 << 16;

/// What a cache held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Pairs that were written.
    pub pairs: u64,
    /// Entries that were skipped.
    pub bad: u64,
}

/// Why unpacking ended.
enum End {
    Cache(CacheError),
    Output(io::Error),
}

impl From<CacheError> for End {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}

/// Writes the pairs of a cache to `out`, which `shown` names; nothing if its reader has gone, who
/// has what it wanted.
///
/// # Errors
/// The cache cannot be read, or `out` cannot be written to.
pub fn unpack(path: &Path, out: impl Write, shown: &str) -> Result<Option<Unpacked>, Failure> {
    let path_shown = path.display();
    let file =
        File::open(path).map_err(|error| Failure::new(format!("open {path_shown}: {error}")))?;
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let mut unpacked = Unpacked::default();
    let each = |entry: Entry<'_>| match entry {
        Entry::Pair { did, pds } => {
            unpacked.pairs += 1;
            serde_json::to_writer(&mut out, &[did, pds])
                .map_err(|error| End::Output(error.into()))?;
            out.write_all(b"\n").map_err(End::Output)
        }
        Entry::Bad { number, at, why } => {
            unpacked.bad += 1;
            if unpacked.bad <= NAMED {
                observe::log!("entry {number} at byte {at} skipped: {why}");
            }
            Ok(())
        }
    };
    let outcome = did_cache::read(BufReader::with_capacity(BUFFER, file), each);
    match outcome.and_then(|()| out.flush().map_err(End::Output)) {
        Ok(()) => Ok(Some(unpacked)),
        Err(End::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            // What is still buffered has no reader: it must not be flushed again.
            drop(out.into_parts());
            Ok(None)
        }
        Err(End::Output(error)) => Err(Failure::new(format!("write to {shown}: {error}"))),
        Err(End::Cache(error)) => {
            // What was read before the break is written all the same.
            drop(out.flush());
            Err(Failure::new(format!(
                "{path_shown}: {error}; {} pairs before it were printed",
                unpacked.pairs
            ))
            .hint(
                "a DID cache is MessagePack or CBOR: one array of [did, pds] pairs, or pairs end to end",
            ))
        }
    }
}
