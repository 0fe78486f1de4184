//! The sending threads of a run whose repos are stored elsewhere (`run --transport`): they check
//! CARs as the encoding threads do, and send each repo that is whole and believed to a stream of
//! NATS JetStream. Consumers, on any machine, store it in the same database.
//!
//! A repo that the stream has is noted as partial: nobody fetches it again, and whoever stores it
//! marks it as loaded. When nothing is pending and the stream is empty, all that was sent is
//! stored, or was refused by a consumer; what is still partial then has failed
//! ([`wait_until_stored`]). A kill at any moment costs what was under way between a host and the
//! stream.

use crate::run::board::Board;
use crate::run::encoding::{self, Accepted, Encode, Encoded, Encoding, Wanted};
use crate::run::options::Transport;
use crate::run::session::Session;
use atrepo::Repo;
use crossbeam_channel::Receiver;
use fetch::{Body, Pages};
use handoff::frames::PartHeader;
use handoff::send_frames::FramedParcel;
use ledger::repos::Note;
use ledger::states::State;
use ledger::{failpoint, parts};
use nats::publish::Sender;
use nats::{Connection, NatsError, Stream};
use observe::units::counted;
use process::{Failure, Stop};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// How often it is looked whether consumers have stored everything.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The stream, while repos are sent to it.
pub(super) struct Sending {
    sender: Sender,
}

impl Sending {
    /// Connects, and opens or creates the stream.
    pub(super) fn open(transport: &Transport, stop: &Stop) -> Result<Self, NatsError> {
        let connection = Arc::new(Connection::open(&transport.settings, stop)?);
        let stream = Stream::create(&connection, &transport.limits)?;
        observe::log!("sending to {} ({})", connection.shown(), stream.described());
        Ok(Self {
            sender: Sender::new(connection, stream),
        })
    }

    /// Works until there is no more to come.
    pub(super) fn work(&self, shared: &Encoding, work: &Receiver<Encode>) {
        let worker = shared.workers.start("waiting for repos");
        while let Ok(next) = shared.lane.starved(|| work.recv()) {
            let (wanted, body, memory, answer) = next.into_parts();
            worker.doing(format!("send {}, {} bytes", wanted.open.did, body.len()));
            let mut memory = Some(memory);
            let sent = self.send(shared, wanted, (body, &mut memory));
            drop(memory);
            // The task waits for it, unless it broke off; then its repo is noted as failed.
            drop(answer.send(sent));
            worker.doing("waiting for repos");
        }
    }

    /// Checks a CAR, and sends its repo.
    fn send(
        &self,
        shared: &Encoding,
        wanted: Wanted,
        from: (Body, &mut Option<OwnedSemaphorePermit>),
    ) -> Encoded {
        let mut pages = Pages::default();
        let Accepted { repo, _index, .. } =
            match encoding::accept(shared, &wanted, from, &mut pages) {
                Ok(accepted) => accepted,
                Err(encoded) => return encoded,
            };
        // The whole tree first: no part of a repo that is not whole is sent.
        let summary = match repo.check_watched(|body| pages.read_entry(body)) {
            Ok(summary) => summary,
            Err(error) => return Encoded::Bad(error),
        };
        repo.car().let_go();
        let commit = repo.commit();
        let stored = wanted.open.rev.as_ref().filter(|_| !wanted.open.rebuild);
        if stored.is_some_and(|stored| *stored > commit.rev) {
            // It is believed more than what is stored, which a consumer cannot know.
            let why = format!(
                "rev {} is older than the stored one, and better proved; load it without --transport",
                commit.rev
            );
            return Encoded::Refused("older", why);
        }
        let parcel = RepoParcel {
            records: summary.entries - summary.unusable,
            bytes: repo.car().len() as u64,
            did: wanted.open.did,
            rev: commit.rev.clone(),
            pds: wanted.open.pds,
            lease: wanted.lease,
            now: shared.now,
            board: Arc::clone(&shared.board),
            repo: Some(repo),
        };
        // It waits for the server, and settles the parcel.
        shared.lane.blocked(|| self.sender.send(parcel));
        Encoded::Well
    }

    /// Waits until the stream has everything.
    pub(super) fn finish(self) -> Result<(), NatsError> {
        self.sender.finish()
    }
}

/// A repo on its way to the stream, as one part.
struct RepoParcel {
    /// Until its frames are written.
    repo: Option<Repo<Body>>,
    did: String,
    rev: String,
    records: u64,
    bytes: u64,
    pds: String,
    lease: i64,
    now: i64,
    board: Arc<Board>,
}

impl FramedParcel for RepoParcel {
    fn id(&self) -> (&str, &str) {
        (&self.did, &self.rev)
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write_frames(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let Some(repo) = &self.repo else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let header = PartHeader {
            did: self.did.clone(),
            pds: self.pds.clone(),
            part: 0,
            parts: 1,
            commit: repo.commit().block.clone(),
            car_bytes: self.bytes,
            now: self.now,
        };
        let mut pages = Pages::default();
        let watch = |body: &Body| pages.read_entry(body);
        handoff::write_part(repo, &header, |_| true, watch, out)
    }

    fn release(&mut self) {
        self.repo = None;
    }

    fn settle(self, outcome: Result<(), String>) {
        let (did, board) = (self.did, self.board);
        match outcome {
            Ok(()) => {
                failpoint::pass("sent");
                board.on_sent(&did, self.lease, self.records, self.bytes);
            }
            // The run ends, and the next one sends it.
            Err(_) if board.stop.is_set() => board.on_lost(self.lease),
            Err(why) => board.note(Note {
                did,
                lease: self.lease,
                state: State::Failed,
                code: Some("not sent"),
                error: Some(why),
                proof: None,
            }),
        }
    }
}

/// Waits until consumers have stored what was sent, and notes as failed what they refused; false if
/// it was stopped before.
pub(super) fn wait_until_stored(
    session: &Session<'_>,
    transport: &Transport,
) -> Result<bool, Failure> {
    let (database, stop) = (session.database, &session.stop);
    let schema = &database.schema;
    let mut patient = database.patient(stop);
    let connection = match Connection::open(&transport.settings, stop) {
        Ok(connection) => connection,
        Err(NatsError::Stopped) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut said = false;
    while !stop.is_set() {
        let is_empty = || match Stream::is_empty(&connection) {
            Err(NatsError::Stopped) => Ok(false),
            is_empty => is_empty,
        };
        if is_empty()? {
            let sent = patient.run(|client| parts::sent(client, schema))?;
            // What was noted as sent had come to the stream before. Others may have sent since.
            if is_empty()? {
                let left = patient.run(|client| parts::give_up(client, schema, &sent))?;
                if left > 0 {
                    observe::log!(
                        "{} that no consumer has stored; the file that its --rejects names says why",
                        counted(left, "repo")
                    );
                }
                return Ok(true);
            }
        }
        if !std::mem::replace(&mut said, true) {
            observe::log!(
                "waiting until consumers have stored what is in {}",
                connection.shown()
            );
        }
        if !stop.waits().sleep(LOOK_EVERY) {
            break;
        }
    }
    Ok(false)
}
