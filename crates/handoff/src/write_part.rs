//! A checked repo as the frames of one part.

use crate::frames::{self, PartHeader};
use atrepo::{Repo, RepoError};
use std::io;

/// Frames are written in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// Why writing ended.
enum End {
    Out(io::Error),
    Repo(RepoError),
}

impl From<RepoError> for End {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// Writes the part that `header` names, in pieces: the entries of a repo whose keys `takes`
/// accepts. `watch` sees the CAR before each entry.
///
/// # Errors
/// What `out` answers; `InvalidData` if the repo, which was checked, cannot be read any more.
pub fn write_part<C: AsRef<[u8]>>(
    repo: &Repo<C>,
    header: &PartHeader,
    takes: impl Fn(&[u8]) -> bool,
    mut watch: impl FnMut(&C),
    out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE_BYTES + (64 << 10));
    frames::append_part(&mut piece, header);
    let mut entries = 0u64;
    let outcome = repo.raw_entries(|key, cid, block| -> Result<(), End> {
        watch(repo.car());
        if !takes(key) {
            return Ok(());
        }
        entries = entries.saturating_add(1);
        match block {
            Ok(block) => frames::append_entry(&mut piece, key, &cid, block),
            Err(error) => frames::append_unread(&mut piece, key, &cid, &error),
        }
        if piece.len() >= PIECE_BYTES {
            out(&piece).map_err(End::Out)?;
            piece.clear();
        }
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(End::Out(error)) => return Err(error),
        // It was checked as a whole; only a broken disk can have changed it since.
        Err(End::Repo(error)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    }
    frames::append_end(&mut piece, entries);
    out(&piece)
}
