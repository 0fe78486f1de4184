//! The encoding threads: they check CARs and encode them as chunks of rows.

use crate::run::board::Board;
use crate::trust::{self, Known, Verdict};
use appview::table::TableInfo;
use archive::ArchiveWriter;
use atrepo::{Commit, Repo, RepoError};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use fetch::{Body, Pages, whole};
use ledger::failpoint;
use ledger::proofs::Proof;
use ledger::repos::{self, Open};
use load::fresh::Probes;
use load::loading::Loaders;
use load::{Choice, Chunk, Costs, EncodeError, Encoder, Origin, revs};
use observe::{Lane, Workers};
use pg::Step;
use process::stop::UNTIL_HURRIED;
use process::{Budget, NotReserved, Reservation, clock};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Rows wait no longer than this for more.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same while no host and no archive is asked for more.
const PATIENCE_AT_END: Duration = Duration::from_millis(10);
/// The same of repos that a stream names: a merge costs as much for one as for some, and takes its
/// share of what the stream needs.
const PATIENCE_OF_STREAM: Duration = Duration::from_millis(500);
/// So often rows that have to wait look whether they still do.
const PAUSE: Duration = Duration::from_millis(50);
/// A CAR to be checked and encoded.
pub(crate) struct Encode {
    pub(crate) open: Open,
    /// The name of its host; empty if it comes from files.
    pub(crate) host: String,
    pub(crate) lease: i64,
    /// What is known of its account's document.
    pub(crate) known: Option<Known>,
    pub(crate) body: Body,
    /// Its share of the memory.
    pub(crate) memory: OwnedSemaphorePermit,
    pub(crate) answer: oneshot::Sender<Encoded>,
}

/// The result of it.
pub(crate) enum Encoded {
    /// Its rows are on their way.
    Well,
    /// The stored commit is the same; who vouches for it.
    Unchanged(Option<Proof>),
    /// It is not whole.
    Bad(RepoError),
    /// It is whole, and not believed: a short name, and why.
    Refused(&'static str, String),
    /// The directory has to be asked about this commit first.
    Doubtful(Box<Commit>, Body, OwnedSemaphorePermit),
    /// It could not be added to the archive.
    NotKept(String),
    /// Its rows were lost.
    Lost,
}

/// What all encoding threads share.
pub(crate) struct Encoding {
    pub(crate) url: String,
    pub(crate) schema: String,
    pub(crate) choice: Choice,
    pub(crate) now: i64,
    /// Whether the time is that of the clock at each repo.
    pub(crate) is_stream: bool,
    /// Whether rows have to wait, if that is ever the case.
    pub(crate) is_paused: Option<Arc<AtomicBool>>,
    pub(crate) chunk_bytes: usize,
    pub(crate) indexed: Vec<(String, String)>,
    /// Memory for indexes of blocks.
    pub(crate) indexes: Budget,
    /// Memory for the unique keys of large repos. It is taken by whoever has its share of the
    /// indexes already.
    pub(crate) keys: Budget,
    pub(crate) board: Arc<Board>,
    pub(crate) workers: Workers,
    /// Where the threads note how long they wait for repos and loaders.
    pub(crate) lane: Lane,
}

/// What is known of a repo beside its CAR.
pub(super) struct Wanted {
    pub(super) open: Open,
    pub(super) host: String,
    pub(super) lease: i64,
    known: Option<Known>,
}

impl Encode {
    /// What is known of the repo, and what else there is of it.
    pub(super) fn into_parts(
        self,
    ) -> (Wanted, Body, OwnedSemaphorePermit, oneshot::Sender<Encoded>) {
        let wanted = Wanted {
            open: self.open,
            host: self.host,
            lease: self.lease,
            known: self.known,
        };
        (wanted, self.body, self.memory, self.answer)
    }
}

/// Why a repo could not be opened.
enum NotOpened {
    Repo(RepoError),
    Memory(NotReserved),
}

impl From<RepoError> for NotOpened {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// Works until there is no more to come.
pub(crate) fn work(shared: &Encoding, number: usize, work: &Receiver<Encode>, loaders: &Loaders) {
    let mut encoder = Encoder::new(
        shared.choice.clone(),
        shared.now,
        shared.chunk_bytes,
        &shared.indexed,
    );
    let mut probes = Probes::new(&shared.url, &shared.schema);
    // A repo that does not fit into a chunk goes to one loader, piece by piece.
    let mut sticky: Option<usize> = None;
    let worker = shared.workers.start("waiting for repos");
    let patience = match shared.is_stream {
        true => PATIENCE_OF_STREAM,
        false => PATIENCE,
    };
    loop {
        let next = match shared.lane.starved(|| next(shared, work, patience)) {
            Ok(next) => next,
            Err(ended) => {
                let waiting = encoder.waiting() as u64;
                let mut hand_on = |chunk: Chunk| {
                    let lane = &shared.lane;
                    lane.blocked(|| hand_on_to(loaders, shared, chunk, (number, &mut sticky)))
                };
                if encoder.flush(&mut hand_on).is_err() {
                    shared.board.on_some_lost(waiting);
                }
                match ended {
                    RecvTimeoutError::Timeout => continue,
                    RecvTimeoutError::Disconnected => return,
                }
            }
        };
        worker.doing(format!(
            "encode {}, {} bytes",
            next.open.did,
            next.body.len()
        ));
        let (wanted, body, memory, answer) = next.into_parts();
        if let (true, Ok(now)) = (shared.is_stream, clock::now(None)) {
            encoder.set_now(now);
        }
        let mut memory = Some(memory);
        let mut hand_on = |chunk: Chunk| {
            let lane = &shared.lane;
            lane.blocked(|| hand_on_to(loaders, shared, chunk, (number, &mut sticky)))
        };
        let encoded = encode(
            shared,
            &wanted,
            (body, &mut memory),
            &mut encoder,
            &mut probes,
            &mut hand_on,
        );
        if encoder.take_spans() {
            // Its first chunks wait for a rest that will not come.
            loaders.abandon(&wanted.open.did);
        }
        drop(memory);
        // The task waits for it, unless it broke off; then its repo is noted as failed.
        drop(answer.send(encoded));
        worker.doing("waiting for repos");
    }
}

/// The next CAR, if one comes before rows have waited long enough.
fn next(
    shared: &Encoding,
    work: &Receiver<Encode>,
    patience: Duration,
) -> Result<Encode, RecvTimeoutError> {
    let at_end = PATIENCE_AT_END.min(patience);
    match work.recv_timeout(at_end) {
        Err(RecvTimeoutError::Timeout) if shared.is_stream || shared.board.asking() > 0 => {
            work.recv_timeout(patience - at_end)
        }
        next => next,
    }
}

/// Hands a chunk on to the loaders, once rows need not wait.
fn hand_on_to(
    loaders: &Loaders,
    shared: &Encoding,
    chunk: Chunk,
    (number, sticky): (usize, &mut Option<usize>),
) -> Result<Chunk, String> {
    let is_paused = || {
        let is_paused = shared.is_paused.as_ref();
        is_paused.is_some_and(|paused| paused.load(Ordering::SeqCst))
    };
    while is_paused() && !shared.board.stop.is_set() {
        std::thread::sleep(PAUSE);
    }
    loaders.hand_on(chunk, number, sticky)
}

/// Checks a CAR and makes its rows.
fn encode(
    shared: &Encoding,
    wanted: &Wanted,
    from: (Body, &mut Option<OwnedSemaphorePermit>),
    encoder: &mut Encoder,
    probes: &mut Probes,
    hand_on: &mut load::HandOn<'_>,
) -> Encoded {
    let mut pages = Pages::default();
    let Accepted {
        repo,
        proof,
        is_fork,
        _index,
    } = match accept(shared, wanted, from, &mut pages) {
        Ok(accepted) => accepted,
        Err(encoded) => return encoded,
    };
    repo.car().let_go();
    let origin = Origin {
        lease: wanted.lease,
        proof,
        is_fork,
    };
    make_rows(shared, &repo, origin, &mut pages, encoder, probes, hand_on)
}

/// A repo that is believed and is not stored as it is; its entries are not checked yet.
pub(super) struct Accepted<'e> {
    pub(super) repo: Repo<Body>,
    pub(super) proof: Option<Proof>,
    pub(super) is_fork: bool,
    /// Memory for the index of its blocks.
    pub(super) _index: Option<Reservation<'e>>,
}

/// Opens a CAR, weighs its commit against what is known and stored, and adds it to the archive; or
/// the result of it.
pub(super) fn accept<'e>(
    shared: &'e Encoding,
    wanted: &Wanted,
    (body, memory): (Body, &mut Option<OwnedSemaphorePermit>),
    pages: &mut Pages,
) -> Result<Accepted<'e>, Encoded> {
    if shared.board.stop.is_set() {
        return Err(Encoded::Lost);
    }
    failpoint::pass("encode");
    let (repo, index) = open(shared, wanted, body, pages)?;
    let (proof, is_fork) = match weigh(&repo, &wanted.open, &wanted.host, wanted.known.as_ref()) {
        Weighed::Store { proof, is_fork } => (proof, is_fork),
        Weighed::Unchanged(proof) => return Err(Encoded::Unchanged(proof)),
        Weighed::Refused(code, why) => return Err(Encoded::Refused(code, why)),
        Weighed::Doubtful => {
            let Some(memory) = memory.take() else {
                return Err(Encoded::Lost);
            };
            let commit = Box::new(repo.commit().clone());
            return Err(Encoded::Doubtful(commit, repo.into_car(), memory));
        }
    };
    if is_fork {
        shared.board.forks.add(1);
    }
    if let Some(writer) = &shared.board.keep
        && let Err(why) = keep(
            writer,
            &wanted.open.did,
            &wanted.open.pds,
            &repo.commit().rev,
            repo.car(),
        )
    {
        return Err(Encoded::NotKept(why));
    }
    Ok(Accepted {
        repo,
        proof,
        is_fork,
        _index: index,
    })
}

/// Reads a CAR and reserves memory for the index of its blocks; or the result of it.
fn open<'e>(
    shared: &'e Encoding,
    wanted: &Wanted,
    body: Body,
    pages: &mut Pages,
) -> Result<(Repo<Body>, Option<Reservation<'e>>), Encoded> {
    let opened = whole::open(body, &wanted.open.did, pages, |bytes| {
        let reserved = shared.indexes.reserve(bytes, &shared.board.stop);
        reserved.map_err(NotOpened::Memory)
    });
    match opened {
        Ok(opened) => Ok(opened),
        Err(NotOpened::Repo(error)) => Err(Encoded::Bad(error)),
        Err(NotOpened::Memory(NotReserved::Stopped)) => Err(Encoded::Lost),
        Err(NotOpened::Memory(NotReserved::TooLarge { wanted, total })) => Err(Encoded::Refused(
            "too large",
            too_large("the index of its blocks", wanted, total),
        )),
    }
}

/// Makes the rows of a repo that is whole and believed.
fn make_rows(
    shared: &Encoding,
    repo: &Repo<Body>,
    origin: Origin,
    pages: &mut Pages,
    encoder: &mut Encoder,
    probes: &mut Probes,
    hand_on: &mut load::HandOn<'_>,
) -> Encoded {
    let stop = &shared.board.stop;
    let mut watch = |body: &Body| {
        pages.read_entry(body);
        match stop.is_set() {
            true => Err(EncodeError::BrokenOff),
            false => Ok(()),
        }
    };
    let mut _keys: Option<Reservation<'_>> = None;
    let mut admit = |bytes: usize| match shared.keys.reserve(bytes, stop) {
        Ok(share) => {
            _keys = Some(share);
            Ok(())
        }
        Err(NotReserved::Stopped) => Err(EncodeError::BrokenOff),
        Err(NotReserved::TooLarge { wanted, total }) => Err(EncodeError::TooLarge(too_large(
            "the unique keys of its records",
            wanted,
            total,
        ))),
    };
    let mut costs = Costs {
        watch: &mut watch,
        keys: &mut admit,
    };
    let mut probe = |rows: &[(TableInfo, &[u8])]| probe_rows(probes, rows, &shared.board);
    let waiting = encoder.waiting() as u64;
    match encoder.add(repo, origin, &mut costs, &mut probe, hand_on) {
        Ok(()) => Encoded::Well,
        Err(EncodeError::Repo(error)) => Encoded::Bad(error),
        Err(EncodeError::TooLarge(why)) => Encoded::Refused("too large", why),
        Err(EncodeError::BrokenOff) => Encoded::Lost,
        Err(EncodeError::Stopped(_)) => {
            // Repos that waited in the same chunk are lost with it.
            shared.board.on_some_lost(waiting);
            Encoded::Lost
        }
    }
}

fn too_large(what: &str, wanted: usize, total: usize) -> String {
    let mib = |bytes: usize| bytes.div_ceil(1 << 20);
    format!(
        "{what} would need {} MiB of memory, more than the {} MiB that it may use: raise --memory",
        mib(wanted),
        total >> 20
    )
}

/// What a whole repo is worth beside what is stored of it.
enum Weighed {
    Store { proof: Option<Proof>, is_fork: bool },
    Unchanged(Option<Proof>),
    Refused(&'static str, String),
    Doubtful,
}

fn weigh(repo: &Repo<Body>, open: &Open, host: &str, known: Option<&Known>) -> Weighed {
    let (commit, did) = (repo.commit(), &open.did);
    let rev = &commit.rev;
    if let Some(why) = revs::refuse(rev) {
        return Weighed::Refused("rev in the future", why);
    }
    let proof = match trust::judge_commit(commit, host, known) {
        Verdict::Accepted(proof) => proof,
        Verdict::Doubtful => return Weighed::Doubtful,
        Verdict::Forged => return Weighed::Refused("forged", trust::forged(did, rev)),
    };
    let Some(stored) = open.rev.as_ref().filter(|_| !open.rebuild) else {
        return Weighed::Store {
            proof,
            is_fork: false,
        };
    };
    if stored == rev {
        let is_same = open.commit_cid.as_ref() == Some(&repo.commit_cid().to_string());
        return match proof {
            _ if is_same && open.proof != Some(Proof::Forged) => Weighed::Unchanged(proof),
            // Which of two commits of one rev is the account's, its document tells.
            None if !is_same => Weighed::Doubtful,
            _ => Weighed::Store {
                proof,
                is_fork: !is_same,
            },
        };
    }
    let is_older = stored > rev;
    if is_older && repos::is_binding(stored, &revs::newest_believed(), false, open.proof, proof) {
        return Weighed::Refused(
            "older",
            format!("rev {rev} is older than the stored {stored}"),
        );
    }
    Weighed::Store {
        proof,
        is_fork: false,
    }
}

/// Tries rows against empty copies of their tables; waits for the server where that helps.
fn probe_rows(
    probes: &mut Probes,
    rows: &[(TableInfo, &[u8])],
    board: &Board,
) -> Result<Option<String>, String> {
    pg::persist(Step::Short, UNTIL_HURRIED, || probes.ask(rows)).map_err(|error| {
        board.break_off(error.to_string());
        error.to_string()
    })
}

/// Adds a CAR to the archive that is kept.
fn keep(
    writer: &Mutex<ArchiveWriter>,
    did: &str,
    pds: &str,
    rev: &str,
    car: &[u8],
) -> Result<(), String> {
    writer
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .add(did, pds, rev, car)
        .map_err(|error| error.to_string())
}
