//! Files of JSON lines, compressed.

use crate::batch::{Done, Values};
use std::io::{self, Write};

/// As in Parquet files.
const LEVEL: i32 = 3;

/// Writes the lines in the batches as one zstd frame; how many there are.
///
/// # Errors
/// A batch or the file.
pub(crate) fn write(
    out: &mut impl Write,
    batches: impl Iterator<Item = io::Result<Done>>,
) -> io::Result<u64> {
    let mut encoder = zstd::Encoder::new(out, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut lines = 0;
    for batch in batches {
        let batch = batch?;
        lines += batch.rows as u64;
        // Each line ends with its line feed.
        if let Some(Values::Text(bytes, _)) = batch.columns.first() {
            encoder.write_all(bytes)?;
        }
    }
    encoder.finish()?;
    Ok(lines)
}
