//! What compressed data may decompress to, wherever it comes from: bodies over HTTP, and archives.
//!
//! Repos compress to a third, because half of a CAR is hashes. Data that decompresses to more than
//! [`MAX_RATIO`] times its size was made to do harm. zstd windows are limited to those that RFC
//! 9659 allows, 8 MiB; the format itself allows gigabytes.

use crate::error::MAX_RATIO;
use std::io::{self, BufRead};

/// Decompressed size that is allowed whatever the compressed size.
const ALWAYS: u64 = 1 << 20;
/// Largest window of zstd, as a power of two.
const ZSTD_WINDOW: u32 = 23;
/// How zstd says that a window is larger than allowed.
const NEEDS_MEMORY: &str = "requires too much memory";

/// The size that so many compressed bytes may decompress to.
#[must_use]
pub fn most(packed: u64) -> u64 {
    packed.saturating_mul(MAX_RATIO).saturating_add(ALWAYS)
}

/// The compressed bytes that it takes at least to be allowed so many decompressed ones.
#[must_use]
pub fn least(unpacked: u64) -> u64 {
    unpacked.saturating_sub(ALWAYS).div_ceil(MAX_RATIO)
}

/// A decoder of zstd with a bounded window. Its errors are to be [`explained`].
///
/// # Errors
/// There is no memory for it.
pub fn zstd<R: BufRead>(packed: R) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(packed)?;
    decoder.window_log_max(ZSTD_WINDOW)?;
    Ok(decoder)
}

/// The error of a decoder, with the limit if it exceeds that of windows.
#[must_use]
pub fn explained(error: io::Error) -> io::Error {
    match error.to_string().contains(NEEDS_MEMORY) {
        true => io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "its zstd window is larger than {} MiB",
                1u64 << ZSTD_WINDOW >> 20
            ),
        ),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_enough() {
        for unpacked in [
            0,
            1,
            ALWAYS,
            ALWAYS + 1,
            ALWAYS + 100,
            ALWAYS + 101,
            1 << 40,
        ] {
            let packed = least(unpacked);
            assert!(most(packed) >= unpacked, "{unpacked}");
            assert!(packed == 0 || most(packed - 1) < unpacked, "{unpacked}");
        }
        assert_eq!(most(u64::MAX), u64::MAX);
    }
}
