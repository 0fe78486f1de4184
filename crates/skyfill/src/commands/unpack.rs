//! `skyfill unpack-as-did-file`.

use crate::cli::UnpackArgs;
use discover::did_cache::{self, CacheError, Entry};
use process::{Ended, Failure};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Write, stdout};

/// Bad entries that are named one by one; the rest are counted.
const NAMED: u64 = 20;

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

pub(crate) fn run(args: &UnpackArgs) -> Result<Ended, Failure> {
    let path = args.path.display();
    let file =
        File::open(&args.path).map_err(|error| Failure::new(format!("open {path}: {error}")))?;
    let mut out = BufWriter::with_capacity(1 << 16, stdout().lock());
    let (mut pairs, mut bad) = (0u64, 0u64);
    let outcome = did_cache::read(
        BufReader::with_capacity(1 << 16, file),
        |entry| match entry {
            Entry::Pair { did, pds } => {
                pairs += 1;
                serde_json::to_writer(&mut out, &[did, pds])
                    .map_err(|error| End::Output(error.into()))?;
                out.write_all(b"\n").map_err(End::Output)
            }
            Entry::Bad { number, at, why } => {
                bad += 1;
                if bad <= NAMED {
                    observe::log!("entry {number} at byte {at} skipped: {why}");
                }
                Ok(())
            }
        },
    );
    let outcome = outcome.and_then(|()| out.flush().map_err(End::Output));
    match outcome {
        Err(End::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            // The reader has what it wanted. What is still buffered has no reader: it must not be
            // flushed again.
            drop(out.into_parts());
            return Ok(Ended::Well);
        }
        Err(End::Output(error)) => return Err(Failure::new(format!("write to stdout: {error}"))),
        Err(End::Cache(error)) => {
            // What was read before the break is printed all the same.
            drop(out.flush());
            return Err(
                Failure::new(format!("{path}: {error}; {pairs} pairs before it were printed")).hint(
                    "a DID cache is MessagePack or CBOR: one array of [did, pds] pairs, or pairs end to end",
                ),
            );
        }
        Ok(()) => {}
    }
    observe::log!("{pairs} pairs, {bad} entries skipped");
    Ok(if bad == 0 {
        Ended::Well
    } else {
        Ended::WithFailures
    })
}
