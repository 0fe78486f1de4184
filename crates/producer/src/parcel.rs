//! A checked repo on its way to the sockets.

use crate::checked::CheckedRepo;
use crate::tally::Tally;
use atrepo::{Entry, RepoError};
use fetch::Pages;
use handoff::account;
use handoff::frames::{self, PartHeader};
use handoff::line::{self, Outgoing};
use rows::route::socket_of;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lines are written in pieces of about this size.
const PIECE_BYTES: usize = 1 << 20;

/// What the sockets are given.
#[derive(Clone)]
pub(crate) enum ToSend {
    /// A repo.
    Repo(Arc<CheckedRepo>),
    /// An account without one: its DID, and its state as the AppView calls it.
    Status(String, &'static str),
}

/// The part of that which one socket carries.
pub(crate) enum Parcel {
    Repo(RepoParcel),
    /// A whole line.
    Status(String),
}

impl Parcel {
    pub(crate) fn new(to_send: &ToSend, socket: usize, sockets: usize, now: i64) -> Self {
        match to_send {
            ToSend::Repo(checked) => Self::Repo(RepoParcel {
                checked: Arc::clone(checked),
                socket,
                sockets,
                now,
                counted: AtomicBool::new(false),
            }),
            ToSend::Status(did, status) => Self::Status(account::status_line(did, status)),
        }
    }
}

impl handoff::send::Parcel for Parcel {
    fn write_lines(
        &self,
        accounts: bool,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Self::Repo(parcel) => parcel.write_lines(accounts, out),
            Self::Status(line) if accounts => out(line.as_bytes()),
            Self::Status(_) => Ok(()),
        }
    }

    fn weight(&self) -> usize {
        match self {
            Self::Repo(parcel) => parcel.checked.repo.car().memory_bytes(),
            Self::Status(line) => line.len(),
        }
    }
}

/// The part of a repo that one socket carries.
pub(crate) struct RepoParcel {
    checked: Arc<CheckedRepo>,
    socket: usize,
    sockets: usize,
    now: i64,
    /// Whether its records were counted: a second sending does not count.
    counted: AtomicBool,
}

/// Why writing ended.
enum End {
    Socket(io::Error),
    Repo(RepoError),
}

impl From<RepoError> for End {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

impl RepoParcel {
    fn write_lines(
        &self,
        accounts: bool,
        out: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + (64 << 10));
        let (mut records, mut unusable) = (0u64, 0u64);
        let did = self.checked.repo.did();
        let mut pages = Pages::default();
        let outcome = self.checked.repo.entries(|entry| -> Result<(), End> {
            pages.read_entry(self.checked.repo.car());
            let Entry::Record {
                collection,
                rkey,
                cid,
                value,
                ..
            } = entry
            else {
                // What has no collection is nobody's: the first socket counts it.
                unusable += u64::from(self.socket == 0);
                return Ok(());
            };
            if socket_of(collection, self.sockets) != self.socket {
                return Ok(());
            }
            let Some(value) = value.as_map() else {
                return Ok(());
            };
            match line::append(
                &mut piece,
                &Outgoing {
                    did,
                    collection,
                    rkey,
                    cid,
                    value,
                    now: self.now,
                },
            ) {
                Ok(()) => records += 1,
                Err(_) => unusable += 1,
            }
            if piece.len() >= PIECE_BYTES {
                out(&piece).map_err(End::Socket)?;
                piece.clear();
            }
            Ok(())
        });
        if accounts && self.socket == 0 {
            let (commit, repo) = (self.checked.repo.commit_cid(), self.checked.repo.commit());
            piece.extend_from_slice(account::repo_line(did, &repo.rev, &commit).as_bytes());
        }
        match outcome {
            Ok(()) => out(&piece)?,
            Err(End::Socket(error)) => return Err(error),
            // It was checked as a whole; only a broken disk can have changed it since.
            Err(End::Repo(error)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
        if !self.counted.swap(true, Ordering::Relaxed) {
            self.checked.records.fetch_add(records, Ordering::Relaxed);
            self.checked.unusable.fetch_add(unusable, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What is sent in the framed form: a part of a repo, or the state of an account.
pub(crate) struct FramedParcel {
    pub(crate) to_send: ToSend,
    pub(crate) socket: usize,
    pub(crate) sockets: usize,
    pub(crate) now: i64,
    pub(crate) tally: Arc<Tally>,
}

impl handoff::send_frames::FramedParcel for FramedParcel {
    fn id(&self) -> (&str, &str) {
        match &self.to_send {
            ToSend::Repo(checked) => (checked.repo.did(), &checked.repo.commit().rev),
            ToSend::Status(did, _) => (did, ""),
        }
    }

    fn bytes(&self) -> u64 {
        match &self.to_send {
            ToSend::Repo(checked) => checked.bytes(),
            ToSend::Status(..) => 0,
        }
    }

    fn write_frames(&self, out: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let checked = match &self.to_send {
            ToSend::Repo(checked) => checked,
            ToSend::Status(did, status) => {
                let mut piece = Vec::new();
                frames::append_status(&mut piece, did, status);
                return out(&piece);
            }
        };
        let number = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
        let header = PartHeader {
            did: checked.repo.did().to_owned(),
            pds: checked.line.pds.clone(),
            part: number(self.socket),
            parts: number(self.sockets),
            commit: checked.repo.commit().block.clone(),
            car_bytes: checked.bytes(),
            now: self.now,
        };
        // What has no collection is nobody's: it goes to the first socket.
        let is_ours = |key: &[u8]| {
            let collection = atrepo::syntax::split_key(key);
            let collection = collection.map_or("", |(collection, _)| collection);
            socket_of(collection, self.sockets) == self.socket
        };
        let mut pages = Pages::default();
        let watch = |body: &fetch::Body| pages.read_entry(body);
        handoff::write_part(&checked.repo, &header, is_ours, watch, out)?;
        let summary = checked.summary;
        checked
            .records
            .store(summary.entries - summary.unusable, Ordering::Relaxed);
        checked.unusable.store(summary.unusable, Ordering::Relaxed);
        Ok(())
    }

    fn settle(self, outcome: Result<(), String>) {
        let ToSend::Repo(checked) = &self.to_send else {
            return;
        };
        match outcome {
            Ok(()) => self.tally.written(checked, self.sockets),
            Err(why) => self.tally.refused(checked, &why),
        }
    }
}
