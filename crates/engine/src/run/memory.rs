//! Divides the memory of a run among its stages, so that all of them together stay within
//! `--memory`, whatever hosts send.

use crate::discovery::MAX_PAGE;

/// Shares, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// Bodies that were fetched and wait to be encoded, or are encoded.
    pub(crate) waiting_bodies: usize,
    /// What one body may take before it goes to a file.
    pub(crate) body: u32,
    /// Bodies that are decompressed concurrently.
    pub(crate) decoders: usize,
    /// Indexes of blocks of the repos that are encoded.
    pub(crate) indexes: usize,
    /// Unique keys of the large ones among them.
    pub(crate) keys: usize,
    /// A chunk of rows.
    pub(crate) chunk: usize,
}

/// Smallest and largest share of a body.
const BODY: (usize, usize) = (16 << 10, 4 << 20);
/// Smallest and largest chunk.
const CHUNK: (usize, usize) = (256 << 10, 8 << 20);
/// A chunk may become so much larger while a small repo is added to it (`load::Encoder`).
const CHUNK_GROWS: usize = 3;
/// What decompressing a body takes: the largest window of zstd that is accepted, and buffers.
const DECODER: usize = 16 << 20;

impl Memory {
    /// Of `total`, a quarter each goes to chunks, indexes and unique keys, an eighth to bodies, and
    /// at most an eighth to decompressing. The rest is for the process itself.
    ///
    /// Half of what bodies have is for those that come in, of which there are `concurrency`. There
    /// is a chunk for each encoding thread that fills it, and three for each connection: one
    /// that waits, one that is sent, one that is empty.
    pub(crate) fn share(
        total: u64,
        concurrency: usize,
        threads: usize,
        connections: usize,
    ) -> Self {
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        let waiting_bodies = total / 16;
        let body = (total / 16 / concurrency.max(1)).clamp(BODY.0, BODY.1);
        let chunks = (threads + 3 * connections) * CHUNK_GROWS;
        Self {
            waiting_bodies: waiting_bodies.max(body),
            body: u32::try_from(body).unwrap_or(u32::MAX),
            decoders: (total / 8 / DECODER).clamp(1, threads.max(1)),
            indexes: total / 4,
            keys: total / 4,
            chunk: (total / 4 / chunks).clamp(CHUNK.0, CHUNK.1),
        }
    }
}

/// Smallest and largest number of pages of lists that are received while repos are loaded.
const PAGES: (u64, u64) = (4, 128);

/// Pages of lists that are received concurrently beside a load with `total` bytes: they may fill a
/// thirty-second of it.
pub(crate) fn pages_of(total: u64) -> usize {
    let pages = (total / 32 / MAX_PAGE).clamp(PAGES.0, PAGES.1);
    usize::try_from(pages).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_within_the_whole() {
        for total in [128u64 << 20, 256 << 20, 1 << 30, 64 << 30] {
            let (concurrency, threads, connections) = (512, 4, 2);
            let memory = Memory::share(total, concurrency, threads, connections);
            let bodies = memory.waiting_bodies + memory.body as usize * concurrency;
            let chunks = memory.chunk * CHUNK_GROWS * (threads + 3 * connections);
            let decoders = memory.decoders * DECODER;
            let all = bodies + chunks + decoders + memory.indexes + memory.keys;
            assert!(all as u64 <= total, "{all} of {total}");
            assert!(
                memory.chunk >= CHUNK.0 && memory.decoders >= 1,
                "{memory:?}"
            );
        }
    }
}
