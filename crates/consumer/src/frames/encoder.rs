//! Whole parts to chunks of rows, which go to the loading threads.

use crate::frames::answers::Answers;
use crate::frames::disconnect::Disconnect;
use crate::frames::kept::WholePart;
use crate::frames::store::PartStore;
use appview::table::TableInfo;
use atrepo::{Cid, Codec, Entry};
use fetch::hosts::host_of;
use handoff::frames::{Answer, PartHeader};
use handoff::part::IncomingPart;
use ledger::parts::{self, PartState};
use ledger::states::Inactive;
use load::fresh::Probes;
use load::{Choice, Chunk, EncodeError, Encoder, LoadedRepo, PartOf};
use postgres::Client;
use process::Reservation;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What encodes the parts of one connection.
pub(crate) struct PartEncoder<'s> {
    store: &'s PartStore,
    /// Number of the connection.
    number: i64,
    peer: Arc<dyn Answers>,
    /// For the run whose time the parts have.
    run: Option<RunEncoder>,
    /// The loading thread that has the first chunks of the part at hand.
    sticky: Option<usize>,
    /// For the unique keys of the part at hand, if they are many.
    keys: Option<Reservation<'s>>,
    client: Option<Client>,
    probes: Probes,
    /// Since when whole parts wait for more to fill a chunk.
    waiting: Option<Instant>,
}

/// The encoder of a run.
struct RunEncoder {
    /// The time of the run.
    now: i64,
    /// The run in the ledger.
    id: i64,
    encoder: Encoder,
}

impl<'s> PartEncoder<'s> {
    pub(crate) fn new(store: &'s PartStore, number: i64, peer: Arc<dyn Answers>) -> Self {
        Self {
            store,
            number,
            peer,
            run: None,
            sticky: None,
            keys: None,
            client: None,
            probes: Probes::new(&store.0.url, &store.0.schema),
            waiting: None,
        }
    }

    /// Sends the producer the answers that it reads now; an error if the connection is to end.
    pub(crate) fn go_on(&self) -> Result<(), Disconnect> {
        self.peer.send();
        if self.peer.is_lost() {
            return Err(Disconnect::Lost);
        }
        if self.store.0.stop.is_set() {
            return Err(Disconnect::stopped());
        }
        Ok(())
    }

    /// Encodes a part that is whole, unless the ledger has it. A part with a value that the
    /// database does not take is refused: sent again, it would be no better.
    pub(crate) fn add(&mut self, part: IncomingPart, entries: WholePart) -> Result<(), Disconnect> {
        let (did, rev) = (part.header().did.clone(), part.rev().to_owned());
        self.wait_for(&did)?;
        let outcome = match self.decide(part, entries) {
            Err(Disconnect::Database(error)) if error.is_of_value() => {
                self.refuse(did, rev, error.to_string());
                return Ok(());
            }
            outcome => outcome,
        };
        if outcome.is_err() {
            self.store.settle(&did);
            self.store.0.loaders.abandon(&did);
        }
        outcome
    }

    /// Waits until nothing of an account is under way, and reserves it: of a DID that comes twice,
    /// the second one is decided about when the first is stored.
    fn wait_for(&mut self, did: &str) -> Result<(), Disconnect> {
        while !self.store.begin(did) {
            self.flush()?;
            self.go_on()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Stores a part, or answers it at once.
    fn decide(&mut self, part: IncomingPart, entries: WholePart) -> Result<(), Disconnect> {
        let count = part.entries();
        let (header, rev) = part.into_header();
        if let Some(error) = load::revs::refuse(&rev) {
            self.refuse(header.did, rev, error);
            return Ok(());
        }
        let host = host_of(&header.pds);
        match self.state_of(&header, &host, &rev)? {
            PartState::Wanted => self.store(header, rev, host, entries),
            PartState::There => {
                self.store.settle(&header.did);
                self.store.0.counts.repeated(count);
                let did = header.did;
                self.peer.answer(&Answer::Stored { did, rev });
                Ok(())
            }
            PartState::Older(newer) => {
                let why = format!("it is stored at the newer rev {newer}");
                self.refuse(header.did, rev, why);
                Ok(())
            }
        }
    }

    /// What the ledger has of a part. Asking locks its row for a moment, so that what is answered
    /// is on the disk.
    fn state_of(
        &mut self,
        header: &PartHeader,
        host: &str,
        rev: &str,
    ) -> Result<PartState, Disconnect> {
        let schema = self.store.0.schema.clone();
        let part = (i16::from(header.part), i16::from(header.parts));
        Ok(parts::lock(
            self.client()?,
            &schema,
            &header.did,
            (&header.pds, host),
            (rev, &load::revs::newest_believed()),
            part,
        )?)
    }

    /// Encodes a part; its rows go to the loading threads.
    fn store(
        &mut self,
        header: PartHeader,
        rev: String,
        host: String,
        entries: WholePart,
    ) -> Result<(), Disconnect> {
        let (did, of_rev, lease) = (header.did.clone(), rev.clone(), self.number);
        let run = self.run_of(header.now)?;
        let id = run.id;
        run.encoder.begin_part(LoadedRepo {
            did: header.did,
            lease,
            part: Some(PartOf {
                number: i16::from(header.part),
                parts: i16::from(header.parts),
                pds: header.pds,
                host,
                run: id,
            }),
            rev,
            commit_cid: Cid::of(Codec::DagCbor, &header.commit).to_string(),
            commit: header.commit.into(),
            car_bytes: header.car_bytes,
            ..LoadedRepo::default()
        });
        self.waiting.get_or_insert_with(Instant::now);
        let outcome = entries.replay(|key, cid, block| {
            if self.store.0.stop.is_set() {
                return Err(Disconnect::stopped());
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
            Err(Disconnect::TooLarge(why)) => {
                let run = self.run.as_mut();
                if run.is_some_and(|run| run.encoder.drop_part()) {
                    self.store.0.loaders.abandon(&did);
                }
                self.refuse(did, of_rev, why);
                Ok(())
            }
            Err(why) => Err(why),
        };
        self.keys = None;
        outcome
    }

    /// The encoder for the time of a run.
    fn run_of(&mut self, now: i64) -> Result<&mut RunEncoder, Disconnect> {
        if self.run.as_ref().is_none_or(|run| run.now != now) {
            self.flush()?;
            let schema = self.store.0.schema.clone();
            let time = rows::datetime::print(now);
            let id = ledger::runs::of_producer(self.client()?, &schema, &time)?;
            let (chunk, indexed) = (self.store.0.chunk, &self.store.0.indexed);
            let encoder = Encoder::new(Choice::ALL, now, chunk, indexed);
            self.run = Some(RunEncoder { now, id, encoder });
        }
        self.run.as_mut().ok_or(Disconnect::Lost)
    }

    fn client(&mut self) -> Result<&mut Client, Disconnect> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            let mut client = pg::connect(&self.store.0.url).map_err(Disconnect::Database)?;
            // What is answered is on the disk; a row that another consumer holds for long makes the
            // producer reconnect.
            client.batch_execute("SET synchronous_commit = on; SET lock_timeout = '30s'")?;
            self.client = Some(client);
        }
        self.client.as_mut().ok_or(Disconnect::Lost)
    }

    /// Bounds the memory of the unique keys of the part at hand: many keys need a reservation.
    fn bound_keys(&mut self) -> Result<(), Disconnect> {
        let run = self.run.as_ref();
        let key_bytes = run.map_or(0, |run| run.encoder.key_bytes());
        let store = self.store;
        if key_bytes <= store.0.chunk {
            return Ok(());
        }
        let total = store.0.keys.total();
        if self.keys.is_none() {
            let keys = store.0.keys.reserve(total, &store.0.stop);
            self.keys = Some(keys.map_err(|_| Disconnect::stopped())?);
        }
        // When it grows, the old table is there for as long as the new one is filled.
        let most = total / 3 * 2;
        if key_bytes <= most {
            return Ok(());
        }
        Err(Disconnect::TooLarge(format!(
            "the unique keys of its records need more than {} MiB of memory: raise the consumer's --memory",
            most >> 20
        )))
    }

    /// Answers that a part is not stored, now or later.
    fn refuse(&self, did: String, rev: String, error: String) {
        self.store.settle(&did);
        self.store.0.refused.add(1);
        self.peer.answer(&Answer::Refused { did, rev, error });
    }

    /// Stores the state of an account that has no repo to give.
    pub(crate) fn store_status(&mut self, did: &str, status: &str) -> Result<(), Disconnect> {
        let schema = self.store.0.schema.clone();
        // What the AppView does not know is not stored.
        let states = Inactive::parse(status).map(|inactive| (did, Some(inactive)));
        load::store_states(self.client()?, &schema, states.as_slice())?;
        self.peer.expect_answer();
        self.peer.answer(&Answer::Stored {
            did: did.to_owned(),
            rev: String::new(),
        });
        Ok(())
    }

    /// Hands on what waits for more to fill a chunk.
    pub(crate) fn flush(&mut self) -> Result<(), Disconnect> {
        self.waiting = None;
        if self.run.is_none() {
            return Ok(());
        }
        self.encode(|encoder, _, hand_on| encoder.flush(hand_on))
    }

    /// The same, if something has waited for that long.
    pub(crate) fn flush_after(&mut self, longest: Duration) -> Result<(), Disconnect> {
        match self.waiting {
            Some(since) if since.elapsed() > longest => self.flush(),
            _ => Ok(()),
        }
    }

    fn encode(
        &mut self,
        step: impl FnOnce(
            &mut Encoder,
            &mut load::Probe<'_>,
            &mut load::HandOn<'_>,
        ) -> Result<(), EncodeError>,
    ) -> Result<(), Disconnect> {
        let Some(RunEncoder { encoder, .. }) = &mut self.run else {
            return Err(Disconnect::Lost);
        };
        let (probes, sticky, loaders) = (&mut self.probes, &mut self.sticky, &self.store.0.loaders);
        let number = usize::try_from(self.number).unwrap_or(0);
        let mut probe = |rows: &[(TableInfo, &[u8])]| -> Result<Option<String>, String> {
            probes.ask(rows).map_err(|error| error.to_string())
        };
        let mut hand_on = |chunk: Chunk| loaders.hand_on(chunk, number, sticky);
        match step(encoder, &mut probe, &mut hand_on) {
            Ok(()) => Ok(()),
            Err(EncodeError::Stopped(why)) => Err(Disconnect::Stopped(why)),
            Err(EncodeError::TooLarge(why)) => Err(Disconnect::TooLarge(why)),
            Err(EncodeError::BrokenOff) => Err(Disconnect::Lost),
            Err(EncodeError::Repo(error)) => Err(Disconnect::Part(error.to_string())),
        }
    }

    /// Discards what waits for more to fill a chunk: the producer sends it again.
    pub(crate) fn discard(&mut self) {
        if let Some(run) = &mut self.run {
            let repos = run.encoder.discard();
            repos.iter().for_each(|repo| self.store.settle(&repo.did));
        }
    }
}
