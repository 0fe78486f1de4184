//! One shard: messages to whole parts, parts to the loading threads, and acknowledgements for what
//! is durable.
//!
//! Any fault ends the reading of a shard, and it begins again with what was not acknowledged. A
//! message that is nothing a producer sends is refused by itself and never comes again.

use crate::counts::Counts;
use crate::frames::{
    Answers, Disconnect, IDLE, KeptPart, LONGEST_WAIT, PartEncoder, PartStore, WholePart,
};
use crate::lines::rejects::Rejects;
use crate::stream::uploads::{Added, Complete, Uploads, without_magic};
use handoff::frames::{Answer, Frame};
use handoff::part::IncomingPart;
use nats::message::Place;
use nats::shard::{Delivery, Shard};
use nats::{Connection, NatsError, Stream};
use observe::{Worker, printable};
use process::Failure;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the end of a reader waits for parts that are on their way to the database.
const LAST_WAIT: Duration = Duration::from_secs(20);
/// Longest pause after a fault.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often uploads that do not go on are dropped, and how many at once: each is two requests to
/// the server, for which the messages of others wait.
const DROP_EVERY: Duration = Duration::from_millis(200);
const MOST_DROPPED: usize = 20;
/// How long no message comes before the reader asks whether the stream holds messages that it did
/// not get.
const QUIET: Duration = Duration::from_secs(10);

/// What readers need.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) connection: Arc<Connection>,
    pub(super) stream: Stream,
    /// For the messages of a shard that have come and are not read, in bytes.
    pub(super) memory: usize,
    pub(super) parts: PartStore,
    pub(super) counts: Counts,
    pub(super) rejects: Arc<Rejects>,
    /// What the server refused, which ends the consumer.
    pub(super) refused: Arc<Mutex<Option<NatsError>>>,
}

/// Why the reading of a shard ended.
enum Fault {
    Stream(NatsError),
    Part(Disconnect),
}

impl From<NatsError> for Fault {
    fn from(error: NatsError) -> Self {
        Self::Stream(error)
    }
}

impl From<Disconnect> for Fault {
    fn from(why: Disconnect) -> Self {
        Self::Part(why)
    }
}

/// The answers to the parts of one shard, until its reader takes them.
#[derive(Default)]
struct ShardAnswers {
    answers: Mutex<Vec<Answer>>,
    lost: AtomicBool,
}

impl Answers for ShardAnswers {
    fn expect_answer(&self) {}

    fn answer(&self, answer: &Answer) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.push(answer.clone());
    }

    fn mark_lost(&self) {
        self.lost.store(true, Ordering::SeqCst);
    }

    fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    fn send(&self) {}
}

impl Context {
    /// Reads a shard until it is to be left, or the consumer is stopped.
    pub(super) fn read(&self, shard: u32, leave: &AtomicBool, worker: &Worker) {
        let mut faults = 0u32;
        while !leave.load(Ordering::SeqCst) && !self.parts.is_stopped() {
            worker.doing(format!("reading shard {shard}"));
            let since = Instant::now();
            match self.read_once(shard, leave) {
                Ok(()) | Err(Fault::Stream(NatsError::Stopped)) => return,
                Err(Fault::Stream(error)) if !error.may_pass() => return self.note(error),
                Err(fault) => {
                    faults = if since.elapsed() > LONGEST_PAUSE {
                        1
                    } else {
                        faults + 1
                    };
                    if faults.is_power_of_two() && !self.parts.is_stopped() {
                        tracing::warn!("shard {shard} is read again: {}", fault.text());
                    }
                }
            }
            let pause = Duration::from_millis(100 << faults.min(6)).min(LONGEST_PAUSE);
            let since = Instant::now();
            while since.elapsed() < pause && !leave.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    fn lock_refused(&self) -> MutexGuard<'_, Option<NatsError>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first thing that the server refused: it ends the consumer.
    pub(super) fn note(&self, error: NatsError) {
        self.lock_refused().get_or_insert(error);
    }

    /// Whether the server refused something.
    pub(super) fn has_refusal(&self) -> bool {
        self.lock_refused().is_some()
    }

    /// What the server refused.
    pub(super) fn refusal(&self) -> Result<(), Failure> {
        match self.lock_refused().take() {
            // It has stored what it had read.
            None | Some(NatsError::Stopped) => Ok(()),
            Some(error) => Err(error.into()),
        }
    }

    fn read_once(&self, shard: u32, leave: &AtomicBool) -> Result<(), Fault> {
        let messages = Shard::open(&self.connection, &self.stream, shard, self.memory)?;
        let answers = Arc::<ShardAnswers>::default();
        let number = self.parts.connect(Arc::<ShardAnswers>::clone(&answers));
        let mut reader = Reader {
            context: self,
            messages,
            encoder: PartEncoder::new(&self.parts, number, Arc::<ShardAnswers>::clone(&answers)),
            answers,
            waiting: HashMap::new(),
            uploads: Uploads::new(self.parts.spool()),
            owner: format!("shard {shard}").into(),
        };
        let outcome = reader.read(leave);
        if outcome.is_err() {
            reader.encoder.discard();
        }
        reader.settle();
        reader.messages.flush();
        self.parts.disconnect(number);
        outcome
    }
}

impl Fault {
    fn text(&self) -> String {
        match self {
            Self::Stream(error) => error.to_string(),
            Self::Part(why) => why.to_string(),
        }
    }
}

/// A shard that is read.
struct Reader<'c> {
    context: &'c Context,
    messages: Shard,
    encoder: PartEncoder<'c>,
    answers: Arc<ShardAnswers>,
    /// The messages of the parts that wait for an answer, by DID and rev.
    waiting: HashMap<(String, String), VecDeque<Vec<u64>>>,
    uploads: Uploads,
    /// This shard, for the spool.
    owner: Arc<str>,
}

impl Reader<'_> {
    fn read(&mut self, leave: &AtomicBool) -> Result<(), Fault> {
        let (mut dropped, mut quiet) = (Instant::now(), Duration::ZERO);
        while !leave.load(Ordering::SeqCst) && !self.context.parts.is_stopped() {
            self.encoder.go_on()?;
            self.settle();
            match self.messages.next(IDLE)? {
                Some(delivery) => {
                    quiet = Duration::ZERO;
                    self.on_message(&delivery)?;
                }
                None => {
                    // Only the time of waiting for messages counts: the database may take longer.
                    quiet += IDLE;
                    self.encoder.flush()?;
                }
            }
            if quiet > QUIET {
                quiet = Duration::ZERO;
                self.messages.require_all_came()?;
            }
            if dropped.elapsed() > DROP_EVERY {
                self.drop_stale()?;
                dropped = Instant::now();
            }
            self.encoder.flush_after(LONGEST_WAIT)?;
        }
        self.end()
    }

    /// Stores what has come as a whole.
    fn end(&mut self) -> Result<(), Fault> {
        self.encoder.flush()?;
        let since = Instant::now();
        while !self.waiting.is_empty() && since.elapsed() < LAST_WAIT {
            if self.answers.is_lost() || process::stop::is_hurried() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
            self.settle();
        }
        Ok(())
    }

    /// Acknowledges what was answered.
    fn settle(&mut self) {
        let answers = &self.answers.answers;
        let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
        for answer in answers {
            let (did, rev, error) = match answer {
                Answer::Stored { did, rev } => (did, rev, None),
                Answer::Refused { did, rev, error } => (did, rev, Some(error)),
            };
            let key = (did, rev);
            let Some(waiting) = self.waiting.get_mut(&key) else {
                continue;
            };
            let sequences = waiting.pop_front().unwrap_or_default();
            if waiting.is_empty() {
                self.waiting.remove(&key);
            }
            match error {
                None => self.messages.acknowledge(sequences),
                Some(error) => {
                    let (did, rev) = key;
                    self.refuse(sequences, &format!("{did} at {rev}"), &error);
                }
            }
        }
    }

    /// Removes messages from the stream that cannot be stored, and keeps a note of it.
    fn refuse(&self, sequences: Vec<u64>, what: &str, why: &str) {
        let (what, why) = (printable(what), printable(why));
        tracing::warn!("refused {what}: {why}");
        self.context.counts.rejected();
        self.context.rejects.add(what.as_bytes(), &why);
        self.messages.refuse(sequences);
    }

    fn on_message(&mut self, delivery: &Delivery) -> Result<(), Fault> {
        let sequence = delivery.sequence;
        let Some(place) = delivery.place else {
            let why = "it is not a message of skyfill producer";
            self.refuse(vec![sequence], &of_message(delivery), why);
            return Ok(());
        };
        if place == Place::Whole {
            let mut kept = self.nothing_kept();
            let added = without_magic(&delivery.payload).and_then(|frames| {
                let added = kept.add_piece(frames, false);
                added.map_err(|error| error.to_string())
            });
            match added {
                Ok(()) => {
                    return self.store(kept.end(), vec![sequence], &of_message(delivery));
                }
                Err(why) => self.refuse(vec![sequence], &of_message(delivery), &why),
            }
            return Ok(());
        }
        match self.uploads.add(delivery, place) {
            Added::Open => Ok(()),
            Added::Complete(Complete {
                kept,
                sequences,
                bytes,
            }) => {
                let kept = match kept {
                    Some(kept) => Ok(kept),
                    None => self.read_again(&sequences, bytes)?,
                };
                match kept {
                    Ok(kept) => self.store(kept.end(), sequences, &of_message(delivery)),
                    Err(why) => {
                        self.refuse(sequences, &of_message(delivery), &why);
                        Ok(())
                    }
                }
            }
            Added::Refused(sequences, why) => {
                self.refuse(sequences, &of_message(delivery), &why);
                Ok(())
            }
            Added::Orphan(sequence) => {
                tracing::warn!(
                    "{}: the beginning of this upload was dropped, or never came; a producer sends it again",
                    of_message(delivery)
                );
                self.messages.acknowledge([sequence]);
                Ok(())
            }
        }
    }

    /// Stores a part or a state that is complete.
    fn store(
        &mut self,
        mut whole: WholePart,
        sequences: Vec<u64>,
        what: &str,
    ) -> Result<(), Fault> {
        let content = match self.content(&mut whole) {
            Ok(content) => content,
            Err(why) => {
                self.refuse(sequences, what, &why.to_string());
                return Ok(());
            }
        };
        let key = match &content {
            Content::Part(part) => (part.header().did.clone(), part.rev().to_owned()),
            Content::Status(did, _) => (did.clone(), String::new()),
        };
        let waiting = self.waiting.entry(key).or_default();
        waiting.push_back(sequences.clone());
        let stored = match content {
            Content::Part(part) => self.encoder.add(*part, whole),
            Content::Status(did, status) => self.encoder.store_status(&did, &status),
        };
        // It would not get better when it comes again.
        if let Err(Disconnect::Part(why)) = &stored {
            self.refuse(sequences, what, why);
        }
        self.settle();
        Ok(stored?)
    }

    /// What frames hold: one part that is whole, or one state.
    fn content(&self, whole: &mut WholePart) -> Result<Content, Disconnect> {
        let mut found = None;
        let mut part: Option<IncomingPart> = None;
        let wrong = |why: &str| Err(Disconnect::Part(why.to_owned()));
        whole.each_frame(|frame| {
            if found.is_some() {
                return wrong("frames after the end");
            }
            match frame {
                Frame::Part(header) if part.is_none() => part = Some(IncomingPart::begin(header)?),
                Frame::Part(_) => return wrong("a part began in a part"),
                Frame::Status(did, status) if part.is_none() => {
                    found = Some(Content::Status(did, status));
                }
                Frame::Status(..) => return wrong("a state in a part"),
                Frame::Entry(key, cid, block) => {
                    let Some(part) = &mut part else {
                        return wrong("an entry outside of a part");
                    };
                    part.entry(key, &cid, &Ok(block))?;
                    self.context.parts.count_entry(block.len() as u64);
                }
                Frame::Unread(key, cid, error) => {
                    let Some(part) = &mut part else {
                        return wrong("an entry outside of a part");
                    };
                    part.entry(key, &cid, &Err(error))?;
                    self.context.parts.count_entry(0);
                }
                Frame::End(entries) => {
                    let Some(part) = part.take() else {
                        return wrong("the end of a part outside of a part");
                    };
                    part.end(entries)?;
                    found = Some(Content::Part(Box::new(part)));
                }
            }
            Ok(())
        })?;
        match found {
            Some(content) => Ok(content),
            None => Err(Disconnect::Part("it is not whole".to_owned())),
        }
    }

    fn nothing_kept(&self) -> KeptPart {
        KeptPart::new(self.context.parts.spool(), &self.owner)
    }

    /// The pieces of an upload that was not kept, of so many bytes. It has precedence over uploads
    /// that are not complete. While others take the space of the spool, or something is wrong with
    /// it, the shard is read again.
    fn read_again(
        &mut self,
        sequences: &[u64],
        bytes: u64,
    ) -> Result<Result<KeptPart, String>, Fault> {
        let mut has_given_up = false;
        loop {
            let mut kept = self.nothing_kept();
            let error = match self.read_pieces(sequences, &mut kept)? {
                Ok(()) => return Ok(Ok(kept)),
                Err(error) => error,
            };
            if self.is_hopeless(&error, bytes) {
                return Ok(Err(error.to_string()));
            }
            if std::mem::replace(&mut has_given_up, true) {
                return Err(Disconnect::Part(error.to_string()).into());
            }
            drop(kept);
            self.uploads.give_up_files();
        }
    }

    fn read_pieces(&self, sequences: &[u64], kept: &mut KeptPart) -> Result<io::Result<()>, Fault> {
        for (at, sequence) in sequences.iter().enumerate() {
            let content = self.messages.content_of(*sequence)?;
            let piece = match at {
                0 => match without_magic(&content) {
                    Ok(piece) => piece,
                    Err(why) => return Ok(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
                },
                _ => content.as_ref(),
            };
            if let Err(error) = kept.add_piece(piece, false) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Whether a complete part of so many bytes could never be kept.
    fn is_hopeless(&self, error: &io::Error, bytes: u64) -> bool {
        match error.kind() {
            io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidData => true,
            io::ErrorKind::StorageFull => bytes > self.context.parts.spool().most_of_one(),
            _ => false,
        }
    }

    /// Drops uploads that do not go on, when nothing else has come.
    fn drop_stale(&mut self) -> Result<(), Fault> {
        let timeout = self.context.parts.part_timeout();
        while let Some(first) = self.uploads.take_first(timeout) {
            self.messages.acknowledge([first]);
        }
        for _ in 0..MOST_DROPPED {
            let Some(upload) = self.uploads.take_stale(timeout) else {
                break;
            };
            let claimed = self
                .messages
                .claim(&upload.subject, upload.first, upload.last())?;
            if !claimed {
                self.uploads.put_back(upload);
                break;
            }
            tracing::warn!(
                "{}: dropped an upload that did not go on; its producer sends it again, if it is alive",
                upload.subject
            );
            self.messages.acknowledge(upload.into_sequences());
        }
        Ok(())
    }
}

/// What a message holds.
enum Content {
    Part(Box<IncomingPart>),
    Status(String, String),
}

/// A message, for people.
fn of_message(delivery: &Delivery) -> String {
    format!("message {} on {}", delivery.sequence, delivery.subject)
}
