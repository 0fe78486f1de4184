//! Checking and encoding, on threads of their own: CARs in, chunks of rows out.

use crate::run::board::{Board, Budget, wait_for_database};
use crate::run::fetching::keep;
use crate::run::loading::{LAST_TRIES, Loaders};
use crate::run::trust::{self, Known, Verdict};
use appview::table::TableInfo;
use atrepo::{Commit, Repo, RepoError};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use fetch::Body;
use fetch::archive::ArchiveWriter;
use ledger::proofs::Proof;
use ledger::repos::{self, Open};
use load::fresh::Probes;
use load::{Choice, Chunk, Decision, EncodeError, Encoder, Origin, decide, revs};
use observe::Workers;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Rows wait no longer than this for more.
const PATIENCE: Duration = Duration::from_millis(100);
/// Pages of a CAR in a file are let go of after so many bytes of reading from front to back,
const LET_GO_BYTES: usize = 32 << 20;
/// and after so many entries in the order of the tree: each may have touched pages of its own.
const LET_GO_ENTRIES: u32 = 2000;

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

/// What came of it.
pub(crate) enum Encoded {
    /// Its rows are on their way.
    Well,
    /// The stored commit is the same; whose word stands behind it.
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
    pub(crate) chunk_bytes: usize,
    pub(crate) indexed: Vec<(String, String)>,
    /// For indexes of blocks.
    pub(crate) memory: Budget,
    pub(crate) keep: Option<Arc<Mutex<ArchiveWriter>>>,
    pub(crate) board: Arc<Board>,
    pub(crate) workers: Workers,
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
    let mut hand_on = |chunk: Chunk| loaders.hand_on(chunk, number, &mut sticky);
    let worker = shared.workers.start("waiting for repos");
    loop {
        let next = match work.recv_timeout(PATIENCE) {
            Ok(next) => next,
            Err(ended) => {
                let waiting = encoder.waiting() as u64;
                if encoder.flush(&mut hand_on).is_err() {
                    shared.board.lost_some(waiting);
                }
                match ended {
                    RecvTimeoutError::Timeout => continue,
                    RecvTimeoutError::Disconnected => return,
                }
            }
        };
        let Encode {
            open,
            host,
            lease,
            known,
            body,
            memory,
            answer,
        } = next;
        let did = &open.did;
        let mut memory = Some(memory);
        worker.doing(format!("encode {did}, {} bytes", body.len()));
        // The index of blocks, and the unique keys of the largest collection, see `atrepo::BlockIndex` and `load::Encoder`.
        let _share = shared.memory.take(body.len() / 6);
        let encoded = (|| {
            let watch = |body: &Body, at: usize, last: &mut usize| {
                if body.is_file() && at.saturating_sub(*last) > LET_GO_BYTES {
                    *last = at;
                    body.let_go();
                }
            };
            let mut last = 0;
            let repo = match Repo::open_watched(body, did, |body, at| watch(body, at, &mut last)) {
                Ok(repo) => repo,
                Err(error) => return Encoded::Bad(error),
            };
            let (proof, is_fork) = match weigh(&repo, &open, &host, known.as_ref()) {
                Weighed::Store { proof, is_fork } => (proof, is_fork),
                Weighed::Unchanged(proof) => return Encoded::Unchanged(proof),
                Weighed::Refused(code, why) => return Encoded::Refused(code, why),
                Weighed::Doubtful => {
                    let Some(memory) = memory.take() else {
                        return Encoded::Lost;
                    };
                    let commit = Box::new(repo.commit().clone());
                    return Encoded::Doubtful(commit, repo.into_car(), memory);
                }
            };
            if is_fork {
                shared.board.forks.add(1);
            }
            let origin = Origin {
                lease,
                proof,
                is_fork,
            };
            if let Some(writer) = &shared.keep
                && let Err(why) = keep(writer, did, &open.pds, &repo.commit().rev, repo.car())
            {
                return Encoded::NotKept(why);
            }
            repo.car().let_go();
            let mut entries = 0u32;
            let mut watch = |body: &Body| {
                entries = entries.wrapping_add(1);
                if body.is_file() && entries.is_multiple_of(LET_GO_ENTRIES) {
                    body.let_go();
                }
            };
            let mut probe = |rows: &[(TableInfo, &[u8])]| ask(&mut probes, rows, &shared.board);
            let waiting = encoder.waiting() as u64;
            match encoder.add(&repo, origin, &mut watch, &mut probe, &mut hand_on) {
                Ok(_) => Encoded::Well,
                Err(EncodeError::Repo(error)) => Encoded::Bad(error),
                Err(EncodeError::Stopped(_)) => {
                    // Repos that waited in the same chunk are lost with it.
                    shared.board.lost_some(waiting);
                    loaders.abandon(did);
                    Encoded::Lost
                }
            }
        })();
        drop(memory);
        // The task waits for it, unless it broke off; then its repo is noted as failed.
        drop(answer.send(encoded));
        worker.doing("waiting for repos");
    }
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
    let proof = match trust::judge(commit, host, known) {
        Verdict::Take(proof) => proof,
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
            format!("rev {rev} is older than {stored}, which is stored"),
        );
    }
    Weighed::Store {
        proof,
        is_fork: false,
    }
}

/// Shows rows to the server; waits for it where that helps.
fn ask(probes: &mut Probes, rows: &[(TableInfo, &[u8])], board: &Board) -> Result<Option<String>, String> {
    let mut tries = 0;
    loop {
        let error = match probes.ask(rows) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match decide(&error) {
            Decision::Reconnect | Decision::Wait if !(board.stop.is_set() && tries > LAST_TRIES) => {
                tries += 1;
                wait_for_database(&error, tries);
            }
            _ => {
                board.break_off(error.to_string());
                return Err(error.to_string());
            }
        }
    }
}
