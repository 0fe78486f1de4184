//! A producer's connection in the framed form: turns parts into chunks, and responds to each part
//! once it is durable.
//!
//! Nothing is acknowledged from memory. If a part is lost on the way to the database, the
//! connection ends. The producer then reconnects, and sends what was not acknowledged.

use crate::counts::Counts;
use crate::peer::Peer;
use crate::spool::Spool;
use atrepo::{Cid, Codec, Commit, Entry, RecordError};
use fetch::hosts::host_of;
use handoff::frames::{Answer, Frame, FrameError, Frames, PartHeader, Step};
use handoff::send::COMMITTED;
use ledger::parts::{self, PartState};
use ledger::states::Inactive;
use load::fresh::Probes;
use load::loading::{Loaders, Settle};
use load::{Choice, Chunk, EncodeError, Encoder, LoadedRepo, PartOf};
use observe::Counter;
use pg::DbError;
use postgres::Client;
use process::{Budget, Reservation, Stop};
use std::collections::{HashMap, HashSet};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without a frame for so long, what is pending is stored.
const IDLE: Duration = Duration::from_millis(100);
/// Whole parts wait no longer than this for more to fill a chunk, whatever comes meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A part of which so few bytes come in the time that it may be silent does not come on.
const LEAST_BYTES: u64 = 2048;

/// Whether parts come on.
struct Steady {
    span: Duration,
    since: Instant,
    bytes: u64,
}

impl Steady {
    fn new(span: Duration) -> Self {
        Self {
            span,
            since: Instant::now(),
            bytes: 0,
        }
    }

    /// Whether enough came, of `bytes` in all, while the stream is within a part or a frame.
    fn is_steady(&mut self, is_within: bool, bytes: u64) -> bool {
        let came = bytes.saturating_sub(self.bytes);
        if is_within && came < LEAST_BYTES {
            return self.since.elapsed() < self.span;
        }
        (self.since, self.bytes) = (Instant::now(), bytes);
        true
    }
}

/// What all framed connections share; it is told the result for parts.
#[derive(Clone)]
pub(crate) struct PartStore(Arc<PartStoreInner>);

struct PartStoreInner {
    url: String,
    schema: String,
    indexed: Vec<(String, String)>,
    loaders: Loaders,
    /// Rows of a chunk, in bytes. The unique keys of a part may take as much.
    chunk: usize,
    /// Memory for the unique keys of larger parts: one of them has all of it.
    keys: Budget,
    connections: Mutex<HashMap<i64, Arc<Peer>>>,
    /// Accounts of which a part is on its way to the database.
    under_way: Mutex<HashSet<String>>,
    next: AtomicI64,
    broken: Mutex<Option<String>>,
    counts: Counts,
    refused: Counter,
    part_timeout: Duration,
    stop: Stop,
}

/// What a part may take.
pub(crate) struct PartLimits {
    /// Rows of a chunk, in bytes.
    pub(crate) chunk: usize,
    /// Unique keys of the parts that are larger than a chunk, in bytes, over all of them.
    pub(crate) keys: usize,
    /// Time in which something of a part has to come.
    pub(crate) timeout: Duration,
}

impl PartStore {
    pub(crate) fn new(
        url: &str,
        schema: &str,
        indexed: Vec<(String, String)>,
        loaders: Loaders,
        limits: &PartLimits,
        counts: &Counts,
        stop: &Stop,
    ) -> Self {
        Self(Arc::new(PartStoreInner {
            url: url.to_owned(),
            schema: schema.to_owned(),
            indexed,
            loaders,
            chunk: limits.chunk,
            keys: Budget::new(limits.keys),
            connections: Mutex::default(),
            under_way: Mutex::default(),
            next: AtomicI64::new(1),
            broken: Mutex::default(),
            counts: counts.clone(),
            refused: Counter::plain("refused"),
            part_timeout: limits.timeout,
            stop: stop.clone(),
        }))
    }

    pub(crate) fn loaders(&self) -> &Loaders {
        &self.0.loaders
    }

    /// Parts that were refused.
    pub(crate) fn refused_parts(&self) -> u64 {
        self.0.refused.get()
    }

    /// Why storing ended, if it did.
    pub(crate) fn broken(&self) -> Option<String> {
        self.0
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn lock_under_way(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.0
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn settled(&self, did: &str) {
        self.lock_under_way().remove(did);
    }

    fn connection(&self, number: i64) -> Option<Arc<Peer>> {
        let connections = self
            .0
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections.get(&number).cloned()
    }

    /// Reads a connection, of which `read` was read already, until its end.
    pub(crate) fn read_from(&self, stream: &UnixStream, read: &[u8]) {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let outcome = self.read(number, stream, read);
        self.0
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&number);
        if let Err(error) = outcome {
            observe::log!("a producer's connection ended: {error}");
        }
    }

    fn read(&self, number: i64, stream: &UnixStream, read: &[u8]) -> Result<(), End> {
        stream
            .set_read_timeout(Some(IDLE))
            .and_then(|()| stream.try_clone())
            .map_err(|error| End::Frames(FrameError::Io(error)))
            .and_then(|answers| {
                let connection = Arc::new(Peer::new(answers));
                self.0
                    .connections
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(number, Arc::clone(&connection));
                let mut intake = FrameReader {
                    store: self,
                    number,
                    connection,
                    encoder: None,
                    part: None,
                    sticky: None,
                    keys: None,
                    client: None,
                    probes: Probes::new(&self.0.url, &self.0.schema),
                    waiting: None,
                };
                let outcome = intake.read(stream, read);
                if outcome.is_err() {
                    intake.abandon();
                }
                outcome
            })
    }
}

impl Settle for PartStore {
    fn stored(&self, repo: &LoadedRepo) {
        self.settled(&repo.did);
        self.0.counts.part_stored(repo);
        if let Some(connection) = self.connection(repo.lease) {
            connection.answer(&Answer::Stored {
                did: repo.did.clone(),
                rev: repo.rev.clone(),
            });
        }
    }

    fn lost(&self, repo: &LoadedRepo) {
        self.settled(&repo.did);
        if let Some(connection) = self.connection(repo.lease) {
            connection.lose();
        }
    }

    fn refused(&self, repo: &LoadedRepo, _: &'static str, why: String) {
        self.settled(&repo.did);
        self.0.refused.add(1);
        if let Some(connection) = self.connection(repo.lease) {
            connection.answer(&Answer::Refused {
                did: repo.did.clone(),
                rev: repo.rev.clone(),
                error: why,
            });
        }
    }

    fn break_off(&self, why: String) {
        self.0
            .broken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(why);
        self.0.stop.set();
    }

    fn is_broken(&self) -> bool {
        self.broken().is_some()
    }
}

/// Why a connection ended before its end.
enum End {
    Frames(FrameError),
    /// A part is not what it says.
    Part(String),
    Database(DbError),
    Stopped(String),
    /// A part takes more memory than there is for one.
    TooLarge(String),
    /// Something was lost.
    Lost,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frames(error) => error.fmt(f),
            Self::Part(why) | Self::Stopped(why) | Self::TooLarge(why) => f.write_str(why),
            Self::Database(error) => error.fmt(f),
            Self::Lost => f.write_str(
                "parts were lost on the way to the database; the producer has to send them again",
            ),
        }
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        Self::Frames(error)
    }
}

/// A part that is coming in. Nothing is asked about it and nothing of it is stored before it is
/// whole.
struct Coming {
    header: PartHeader,
    rev: String,
    entries: u64,
    last_key: Vec<u8>,
    spool: Spool,
}

/// A connection that is read.
struct FrameReader<'f> {
    store: &'f PartStore,
    number: i64,
    connection: Arc<Peer>,
    /// For the time of the run that parts say.
    encoder: Option<(i64, i64, Encoder)>,
    part: Option<Coming>,
    sticky: Option<usize>,
    /// For the unique keys of the part at hand, if they are many.
    keys: Option<Reservation<'f>>,
    client: Option<Client>,
    probes: Probes,
    /// Since when whole parts wait for more to fill a chunk.
    waiting: Option<Instant>,
}

impl FrameReader<'_> {
    fn read(&mut self, stream: &UnixStream, read: &[u8]) -> Result<(), End> {
        let mut frames = Frames::new(stream, read);
        let mut steady = Steady::new(self.store.0.part_timeout);
        loop {
            self.go_on()?;
            if self.connection.is_behind() {
                // It has to listen before it may say more.
                std::thread::sleep(IDLE / 10);
                continue;
            }
            match frames.step(|frame| self.on_frame(frame))? {
                Step::Read => {}
                Step::Idle => self.flush()?,
                Step::End => break,
            }
            if self
                .waiting
                .is_some_and(|since| since.elapsed() > LONGEST_WAIT)
            {
                self.flush()?;
            }
            let is_within = self.part.is_some() || frames.is_within();
            if !steady.is_steady(is_within, frames.bytes()) {
                return Err(End::Part(format!(
                    "almost nothing of a part arrived for {} s; the producer has to send it again",
                    self.store.0.part_timeout.as_secs()
                )));
            }
        }
        if self.part.is_some() {
            return Err(End::Part("the stream ended in a part".to_owned()));
        }
        self.flush()?;
        // All answers first, then the end.
        self.wait_until(Peer::is_answered)?;
        self.connection.say(COMMITTED);
        self.wait_until(Peer::has_taken_all)
    }

    /// Sends the producer what it takes; an error if this connection is to end.
    fn go_on(&self) -> Result<(), End> {
        self.connection.send();
        if self.connection.is_lost() {
            return Err(End::Lost);
        }
        if self.store.0.stop.is_set() {
            return Err(End::Stopped("the consumer was stopped".to_owned()));
        }
        Ok(())
    }

    /// Waits for the end of a connection whose producer has sent all; being told to stop does not
    /// end that.
    fn wait_until(&self, done: impl Fn(&Peer) -> bool) -> Result<(), End> {
        let since = Instant::now();
        while !done(&self.connection) {
            self.connection.send();
            if self.connection.is_lost() || self.store.broken().is_some() {
                return Err(End::Lost);
            }
            let is_fresh = since.elapsed() < Duration::from_secs(1);
            std::thread::sleep(Duration::from_millis(if is_fresh { 1 } else { 50 }));
        }
        Ok(())
    }

    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), End> {
        match frame {
            Frame::Part(header) => self.begin(header),
            Frame::Entry(key, cid, block) => self.entry(key, cid, &Ok(block)),
            Frame::Unread(key, cid, error) => self.entry(key, cid, &Err(error)),
            Frame::End(entries) => self.end(entries),
            Frame::Status(did, status) => self.status(&did, &status),
        }
    }

    fn begin(&mut self, header: PartHeader) -> Result<(), End> {
        if self.part.is_some() {
            return Err(End::Part("a part began in a part".to_owned()));
        }
        let commit = Commit::parse(&header.commit)
            .map_err(|why| End::Part(format!("{}: {why}", header.did)))?;
        if commit.did != header.did {
            return Err(End::Part(format!(
                "{}: the commit is of {}",
                header.did, commit.did
            )));
        }
        self.connection.expect_answer();
        self.part = Some(Coming {
            header,
            rev: commit.rev,
            entries: 0,
            last_key: Vec::new(),
            spool: Spool::default(),
        });
        Ok(())
    }

    /// Waits until nothing of an account is on its way, and has the account for itself: of a DID
    /// that comes twice the second is looked at when the first is stored.
    fn wait_for(&mut self, did: &str) -> Result<(), End> {
        while !self.store.lock_under_way().insert(did.to_owned()) {
            self.flush()?;
            self.go_on()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What the ledger knows of a part. Asking locks its row for a moment, so that what is answered
    /// is on the disk.
    fn known(&mut self, header: &PartHeader, host: &str, rev: &str) -> Result<PartState, End> {
        let schema = self.store.0.schema.clone();
        let part = (i16::from(header.part), i16::from(header.parts));
        parts::lock(
            self.client()?,
            &schema,
            &header.did,
            (&header.pds, host),
            (rev, &load::revs::newest_believed()),
            part,
        )
        .map_err(|error| End::Database(error.into()))
    }

    /// Makes sure that there is an encoder for the time of a run; the number of that run.
    fn encoder_for(&mut self, now: i64) -> Result<i64, End> {
        if let Some((of, run, _)) = &self.encoder
            && *of == now
        {
            return Ok(*run);
        }
        self.flush()?;
        let schema = self.store.0.schema.clone();
        let run = ledger::runs::of_producer(self.client()?, &schema, &rows::datetime::print(now))
            .map_err(|error| End::Database(error.into()))?;
        let encoder = Encoder::new(Choice::ALL, now, self.store.0.chunk, &self.store.0.indexed);
        self.encoder = Some((now, run, encoder));
        Ok(run)
    }

    fn client(&mut self) -> Result<&mut Client, End> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut client = pg::connect(&self.store.0.url).map_err(End::Database)?;
            // What is answered is on the disk; a row that another consumer holds for long makes the
            // producer come again.
            client
                .batch_execute("SET synchronous_commit = on; SET lock_timeout = '30s'")
                .map_err(|error| End::Database(error.into()))?;
            self.client = Some(client);
        }
        self.client.as_mut().ok_or(End::Lost)
    }

    fn entry(
        &mut self,
        key: &[u8],
        cid: Cid,
        block: &Result<&[u8], RecordError>,
    ) -> Result<(), End> {
        let Some(coming) = &mut self.part else {
            return Err(End::Part("an entry outside of a part".to_owned()));
        };
        let header = &coming.header;
        let wrong = |why: &str| End::Part(format!("{}: {why}", header.did));
        if coming.entries > 0 && key <= coming.last_key.as_slice() {
            return Err(wrong("keys out of order"));
        }
        if block.as_ref().is_ok_and(|block| !cid.matches(block)) {
            return Err(wrong("a block that does not match its CID"));
        }
        let collection = atrepo::syntax::split_key(key).map_or("", |(collection, _)| collection);
        if rows::route::socket_of(collection, usize::from(header.parts)) != usize::from(header.part)
        {
            return Err(wrong(&format!("{collection} does not belong to this part")));
        }
        coming
            .spool
            .add(key, &cid, block)
            .map_err(|error| wrong(&format!("its entries cannot be kept: {error}")))?;
        coming.entries += 1;
        coming.last_key.clear();
        coming.last_key.extend_from_slice(key);
        let bytes = block.as_ref().map_or(0, |block| block.len() as u64);
        self.store.0.counts.entry(bytes);
        Ok(())
    }

    /// A part is whole: it is encoded, unless the ledger has it.
    fn end(&mut self, entries: u64) -> Result<(), End> {
        let Some(coming) = self.part.take() else {
            return Err(End::Part("the end of a part outside of a part".to_owned()));
        };
        let did = coming.header.did.clone();
        if coming.entries != entries {
            return Err(End::Part(format!(
                "{did}: {} entries of {entries} arrived",
                coming.entries
            )));
        }
        self.wait_for(&did)?;
        let outcome = self.whole(coming);
        if outcome.is_err() {
            self.store.settled(&did);
            self.store.0.loaders.abandon(&did);
        }
        outcome
    }

    fn whole(&mut self, coming: Coming) -> Result<(), End> {
        if let Some(error) = load::revs::refuse(&coming.rev) {
            let (did, rev) = (coming.header.did, coming.rev);
            self.store.settled(&did);
            self.store.0.refused.add(1);
            self.connection.answer(&Answer::Refused { did, rev, error });
            return Ok(());
        }
        let host = host_of(&coming.header.pds);
        let known = self.known(&coming.header, &host, &coming.rev)?;
        let (did, rev) = (coming.header.did.clone(), coming.rev.clone());
        match known {
            PartState::Wanted => self.store(coming, host),
            PartState::There => {
                self.store.settled(&did);
                self.store.0.counts.repeated(coming.entries);
                self.connection.answer(&Answer::Stored { did, rev });
                Ok(())
            }
            PartState::Older(newer) => {
                self.store.settled(&did);
                self.store.0.refused.add(1);
                let error = format!("it is stored at the newer rev {newer}");
                self.connection.answer(&Answer::Refused { did, rev, error });
                Ok(())
            }
        }
    }

    /// Encodes a part that is whole; its rows go on their way.
    fn store(&mut self, coming: Coming, host: String) -> Result<(), End> {
        let Coming {
            header, rev, spool, ..
        } = coming;
        let (did, of_rev) = (header.did.clone(), rev.clone());
        let run = self.encoder_for(header.now)?;
        let Some((.., encoder)) = &mut self.encoder else {
            return Err(End::Lost);
        };
        encoder.begin_part(LoadedRepo {
            did: did.clone(),
            lease: self.number,
            part: Some(PartOf {
                number: i16::from(header.part),
                parts: i16::from(header.parts),
                pds: header.pds,
                host,
                run,
            }),
            rev,
            commit_cid: Cid::of(Codec::DagCbor, &header.commit).to_string(),
            commit: header.commit.into(),
            car_bytes: header.car_bytes,
            ..LoadedRepo::default()
        });
        self.waiting.get_or_insert_with(Instant::now);
        let outcome = spool.replay(|key, cid, block| {
            if self.store.0.stop.is_set() {
                return Err(End::Stopped("the consumer was stopped".to_owned()));
            }
            let entry = match block {
                Ok(block) => Entry::of(key, cid, block),
                Err(error) => Entry::unread(key, cid, error),
            };
            self.encode(|encoder, probe, hand_on| encoder.part_entry(&entry, probe, hand_on))?;
            self.bound_keys()
        });
        let outcome = match outcome {
            Ok(()) => self.encode(|encoder, _, hand_on| encoder.end_part(hand_on)),
            Err(End::TooLarge(why)) => {
                self.refuse(did, of_rev, why);
                Ok(())
            }
            Err(end) => Err(end),
        };
        self.keys = None;
        outcome
    }

    /// Sees to it that the unique keys of the part at hand have their share of the memory.
    fn bound_keys(&mut self) -> Result<(), End> {
        let key_bytes = self
            .encoder
            .as_ref()
            .map_or(0, |(.., encoder)| encoder.key_bytes());
        let store = self.store;
        if key_bytes <= store.0.chunk {
            return Ok(());
        }
        if self.keys.is_none() {
            let share = store.0.keys.reserve(store.0.keys.total(), &store.0.stop);
            self.keys =
                Some(share.map_err(|_| End::Stopped("the consumer was stopped".to_owned()))?);
        }
        // When it grows, the old table is there for as long as the new one is filled.
        let most = store.0.keys.total() / 3 * 2;
        if key_bytes <= most {
            return Ok(());
        }
        Err(End::TooLarge(format!(
            "the unique keys of its records need more than {} MiB of memory: raise the consumer's --memory",
            most >> 20
        )))
    }

    /// A part is not stored, now or later.
    fn refuse(&mut self, did: String, rev: String, error: String) {
        let spans = self
            .encoder
            .as_mut()
            .is_some_and(|(.., encoder)| encoder.drop_part());
        if spans {
            self.store.0.loaders.abandon(&did);
        }
        self.store.settled(&did);
        self.store.0.refused.add(1);
        self.connection.answer(&Answer::Refused { did, rev, error });
    }

    fn status(&mut self, did: &str, status: &str) -> Result<(), End> {
        let schema = self.store.0.schema.clone();
        // What the AppView does not know is not stored.
        let states = Inactive::parse(status).map(|inactive| (did, Some(inactive)));
        load::store_states(self.client()?, &schema, states.as_slice())
            .map_err(|error| End::Database(error.into()))?;
        self.connection.expect_answer();
        self.connection.answer(&Answer::Stored {
            did: did.to_owned(),
            rev: String::new(),
        });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), End> {
        self.waiting = None;
        if self.encoder.is_none() {
            return Ok(());
        }
        self.encode(|encoder, _, hand_on| encoder.flush(hand_on))
    }

    fn encode(
        &mut self,
        step: impl FnOnce(
            &mut Encoder,
            &mut load::Probe<'_>,
            &mut load::HandOn<'_>,
        ) -> Result<(), EncodeError>,
    ) -> Result<(), End> {
        let Some((.., encoder)) = &mut self.encoder else {
            return Err(End::Lost);
        };
        let (probes, sticky, loaders) = (&mut self.probes, &mut self.sticky, &self.store.0.loaders);
        let number = usize::try_from(self.number).unwrap_or(0);
        let mut probe =
            |rows: &[(appview::table::TableInfo, &[u8])]| -> Result<Option<String>, String> {
                probes.ask(rows).map_err(|error| error.to_string())
            };
        let mut hand_on = |chunk: Chunk| loaders.hand_on(chunk, number, sticky);
        match step(encoder, &mut probe, &mut hand_on) {
            Ok(()) => Ok(()),
            Err(EncodeError::Stopped(why)) => Err(End::Stopped(why)),
            Err(EncodeError::TooLarge(why)) => Err(End::TooLarge(why)),
            Err(EncodeError::BrokenOff) => Err(End::Lost),
            Err(EncodeError::Repo(error)) => Err(End::Part(error.to_string())),
        }
    }

    /// What waits for more to fill a chunk will not be stored: the producer sends it again.
    fn abandon(&mut self) {
        if let Some((.., encoder)) = &mut self.encoder {
            encoder
                .discard()
                .iter()
                .for_each(|repo| self.store.settled(&repo.did));
        }
    }
}
