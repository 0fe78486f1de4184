//! Parts that come in several messages, until their last piece is there.
//!
//! Their messages stay in the stream, and their pieces are kept in files of the spool. If there are
//! more uploads than files, or the spool has no space left for uploads, the pieces of the others
//! are read again when they are complete.

use crate::frames::KeptPart;
use fetch::Spool;
use handoff::frames::MAGIC;
use nats::message::Place;
use nats::shard::Delivery;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Maximum number of files, for each shard.
const MOST_FILES: usize = 32;
/// Whose files these are, for the spool: one owner for all shards, so that parts that are complete
/// always find space.
const OWNER: &str = "uploads that are not complete";

/// A part that is complete: its frames, and the numbers of its messages.
pub(super) struct Complete {
    /// Nothing if its pieces have to be read again.
    pub(super) kept: Option<KeptPart>,
    pub(super) sequences: Vec<u64>,
    /// Bytes of its pieces.
    pub(super) bytes: u64,
}

/// What a message led to.
pub(super) enum Added {
    /// More has to come.
    Open,
    /// The part is complete.
    Complete(Complete),
    /// These messages are nothing that can be stored; why.
    Refused(Vec<u64>, String),
    /// The message belongs to an upload that was dropped, or that never began.
    Orphan(u64),
}

/// An upload.
pub(super) struct Upload {
    pub(super) subject: String,
    /// Its first message, if it was still there; it has no content.
    pub(super) first: Option<u64>,
    /// The messages of its pieces.
    sequences: Vec<u64>,
    pieces: u32,
    bytes: u64,
    kept: Option<KeptPart>,
    /// When its last piece came.
    since: Instant,
}

impl Upload {
    fn new(subject: &str, kept: Option<KeptPart>) -> Self {
        Self {
            subject: subject.to_owned(),
            first: None,
            sequences: Vec::new(),
            pieces: 0,
            bytes: 0,
            kept,
            since: Instant::now(),
        }
    }

    /// The last message that has come.
    pub(super) fn last(&self) -> u64 {
        self.sequences.last().copied().or(self.first).unwrap_or(0)
    }

    /// The numbers of its messages.
    pub(super) fn into_sequences(self) -> impl Iterator<Item = u64> {
        self.first.into_iter().chain(self.sequences)
    }
}

/// The uploads of a shard. Somebody may begin as many as the server delivers without an
/// acknowledgement, some 260,000: no step but giving up the files goes over all of them.
pub(super) struct Uploads {
    spool: Spool,
    owner: Arc<str>,
    open: HashMap<String, Upload>,
    /// Those of `open` that have a file.
    files: usize,
    /// Each of `open`, by the time when it was looked at last: nothing came for it before that.
    queue: VecDeque<(Instant, String)>,
    /// The first messages of those that are complete, which their producers delete.
    first: VecDeque<(Instant, u64)>,
}

impl Uploads {
    pub(super) fn new(spool: &Spool) -> Self {
        Self {
            spool: spool.clone(),
            owner: OWNER.into(),
            open: HashMap::new(),
            files: 0,
            queue: VecDeque::new(),
            first: VecDeque::new(),
        }
    }

    /// Takes a message of an upload.
    pub(super) fn add(&mut self, delivery: &Delivery, place: Place) -> Added {
        let (subject, sequence) = (&delivery.subject, delivery.sequence);
        let (number, is_last) = match place {
            Place::Open => {
                if self.open.contains_key(subject) {
                    let why = format!("{subject}: the upload had begun");
                    return Added::Refused(vec![sequence], why);
                }
                self.begin(subject).first = Some(sequence);
                return Added::Open;
            }
            Place::More(number) => (number, false),
            Place::Last(number) => (number, true),
            Place::Whole => return Added::Orphan(sequence),
        };
        if number == 1 && !self.open.contains_key(subject) {
            // Its producer has sent all of it, or a consumer wanted to drop it.
            self.begin(subject);
        }
        let Some(upload) = self.open.get_mut(subject) else {
            return Added::Orphan(sequence);
        };
        if number != upload.pieces + 1 {
            return Added::Orphan(sequence);
        }
        upload.sequences.push(sequence);
        let had_file = upload.kept.is_some();
        let added = upload.add_piece(&delivery.payload, is_last);
        self.files -= usize::from(had_file && upload.kept.is_none());
        if let Ok(false) = added {
            return Added::Open;
        }
        let Some(upload) = self.remove(subject) else {
            return Added::Open;
        };
        self.first
            .extend(upload.first.map(|first| (Instant::now(), first)));
        match added {
            Ok(_) => Added::Complete(Complete {
                kept: upload.kept,
                sequences: upload.sequences,
                bytes: upload.bytes,
            }),
            Err(why) => Added::Refused(upload.sequences, format!("{subject}: {why}")),
        }
    }

    fn begin(&mut self, subject: &str) -> &mut Upload {
        self.queue.push_back((Instant::now(), subject.to_owned()));
        let has_file = self.files < MOST_FILES;
        self.files += usize::from(has_file);
        let kept = has_file.then(|| KeptPart::new(&self.spool, &self.owner));
        let upload = Upload::new(subject, kept);
        self.open.entry(subject.to_owned()).or_insert(upload)
    }

    /// Gives the files up: the pieces are read again when their parts are complete.
    pub(super) fn give_up_files(&mut self) {
        if self.files > 0 {
            self.open.values_mut().for_each(|upload| upload.kept = None);
            self.files = 0;
        }
    }

    fn remove(&mut self, subject: &str) -> Option<Upload> {
        let upload = self.open.remove(subject)?;
        self.files -= usize::from(upload.kept.is_some());
        Some(upload)
    }

    /// Takes out an upload of which nothing came for so long.
    pub(super) fn take_stale(&mut self, longest: Duration) -> Option<Upload> {
        loop {
            let (looked_at, _) = self.queue.front()?;
            if looked_at.elapsed() <= longest {
                return None;
            }
            let (_, subject) = self.queue.pop_front()?;
            let Some(upload) = self.open.get(&subject) else {
                continue;
            };
            if upload.since.elapsed() > longest {
                return self.remove(&subject);
            }
            self.queue.push_back((Instant::now(), subject));
        }
    }

    /// Puts back one that goes on after all.
    pub(super) fn put_back(&mut self, mut upload: Upload) {
        upload.since = Instant::now();
        self.files += usize::from(upload.kept.is_some());
        self.queue.push_back((upload.since, upload.subject.clone()));
        self.open.insert(upload.subject.clone(), upload);
    }

    /// The first message of an upload that was complete so long ago that its producer is gone.
    pub(super) fn take_first(&mut self, longest: Duration) -> Option<u64> {
        let (since, first) = self.first.front()?;
        let first = (since.elapsed() > longest).then_some(*first)?;
        self.first.pop_front();
        Some(first)
    }
}

impl Upload {
    /// Adds a piece; whether it was the last one.
    fn add_piece(&mut self, piece: &[u8], is_last: bool) -> Result<bool, String> {
        let piece = match self.pieces {
            0 => without_magic(piece)?,
            _ => piece,
        };
        self.pieces += 1;
        self.since = Instant::now();
        self.bytes += piece.len() as u64;
        if let Some(kept) = &mut self.kept {
            match kept.add_piece(piece, !is_last) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    return Err(error.to_string());
                }
                // Whatever is wrong with the spool: it is read again.
                Err(error) => {
                    tracing::debug!("{}: {error}", self.subject);
                    self.kept = None;
                }
            }
        }
        Ok(is_last)
    }
}

/// The frames of a stream's beginning.
pub(super) fn without_magic(bytes: &[u8]) -> Result<&[u8], String> {
    let frames = bytes.strip_prefix(MAGIC);
    frames.ok_or_else(|| "it is not a framed stream that this version knows".to_owned())
}
