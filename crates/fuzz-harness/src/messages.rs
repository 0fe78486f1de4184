//! Checks of what hosts, directories and producers send beside repos: streams of frames, pages of
//! lists, frames of event streams, DID documents, pages of the PLC export.

use crate::account::DID;
use crate::cost::unmeasured;
use atrepo::{Cid, RecordError, sync, syntax};
use bytes::Bytes;
use discover::events::{self, CommitEvent, Decoded, Event};
use discover::{did_file, lists};
use handoff::frames::{self, Answer, Frame, FrameError, Frames, MAGIC, PartHeader, Step};
use identity::document::{self, Document};
use identity::export::{self, Latest};
use serde_json::json;
use std::io::Read;

/// A frame with what it borrows.
#[derive(Debug, PartialEq)]
enum Owned {
    Part(PartHeader),
    Entry(Vec<u8>, Cid, Vec<u8>),
    Unread(Vec<u8>, Cid, RecordError),
    End(u64),
    Status(String, String),
}

/// A stream that comes in pieces of so many bytes.
struct Pieces<'a> {
    rest: &'a [u8],
    bytes: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.bytes.min(into.len());
        self.rest.read(&mut into[..bytes])
    }
}

/// The frames of a stream up to its end or first fault, and whether it has none.
fn frames_of(stream: impl Read, read: &[u8]) -> (Vec<Owned>, bool) {
    let mut frames = Frames::new(stream, read);
    let mut found = Vec::new();
    loop {
        let step = frames.step(|frame| {
            found.push(match frame {
                Frame::Part(header) => Owned::Part(header),
                Frame::Entry(key, cid, block) => Owned::Entry(key.to_vec(), cid, block.to_vec()),
                Frame::Unread(key, cid, error) => Owned::Unread(key.to_vec(), cid, error),
                Frame::End(count) => Owned::End(count),
                Frame::Status(did, status) => Owned::Status(did, status),
            });
            Ok::<(), FrameError>(())
        });
        match step {
            Ok(Step::End) => return (found, true),
            Ok(_) => {}
            Err(_) => return (found, false),
        }
    }
}

fn append(out: &mut Vec<u8>, frame: &Owned) {
    match frame {
        Owned::Part(header) => frames::append_part(out, header),
        Owned::Entry(key, cid, block) => frames::append_entry(out, key, cid, block),
        Owned::Unread(key, cid, error) => frames::append_unread(out, key, cid, error),
        Owned::End(count) => frames::append_end(out, *count),
        Owned::Status(did, status) => frames::append_status(out, did, status),
    }
}

/// Streams of frames: however a stream is cut, it has the same frames; written again, they are read
/// again. Answers of a consumer are read as they were written.
pub(crate) fn run_frames(data: &[u8]) {
    let mut frames = Frames::new(data, &[]);
    while let Ok(Step::Read | Step::Idle) = frames.step(|_| Ok::<(), FrameError>(())) {}
    unmeasured(|| check_frames(data));
}

fn check_frames(data: &[u8]) {
    let whole = frames_of(data, &[]);
    let bytes = 1 + data.iter().fold(0, |sum: usize, b| sum + usize::from(*b)) % 97;
    let (read, rest) = data.split_at(bytes.min(data.len()));
    assert_eq!(frames_of(Pieces { rest, bytes }, read), whole, "in pieces");
    assert_eq!(frames_of(&[][..], data), whole, "read before");
    let mut again = MAGIC.to_vec();
    whole.0.iter().for_each(|frame| append(&mut again, frame));
    assert_eq!(frames_of(&again[..], &[]), (whole.0, true), "written again");
    if let Some(answer) = Answer::parse(data) {
        assert_eq!(Answer::parse(&answer.line()), Some(answer));
    }
}

/// Pages of the three lists, and DID files: what is taken can be stored, and is taken again as it
/// was written.
pub(crate) fn run_lists(data: &[u8]) {
    let (repos, dids, hosts) = (lists::repos(data), lists::dids(data), lists::hosts(data));
    let lines = did_file::read(data, 0, 0).map_while(Result::ok).flatten();
    let lines: Vec<_> = lines.collect();
    unmeasured(|| {
        check_repos(repos);
        if let Ok(page) = dids {
            assert!(page.lines.iter().all(|did| syntax::is_did(did)));
        }
        if let Ok(page) = hosts {
            for host in &page.lines {
                assert_eq!(lists::base_url(&host.url).as_ref(), Some(&host.url));
            }
        }
        lines.iter().for_each(check_line);
    });
}

fn check_repos(page: Result<lists::Page<lists::ListedRepo>, lists::NoPage>) {
    if let Ok(page) = page {
        assert!(page.lines.iter().all(|repo| syntax::is_did(&repo.did)));
        let repos: Vec<_> = page
            .lines
            .iter()
            .map(|repo| {
                let (did, rev, status) = (&repo.did, &repo.rev, repo.status);
                json!({"did": did, "rev": rev, "active": status.is_none(), "status": status})
            })
            .collect();
        let again = json!({"cursor": page.cursor, "repos": repos}).to_string();
        let again = lists::repos(again.as_bytes()).expect("a page that was read");
        assert_eq!((again.lines, again.cursor), (page.lines, page.cursor));
        assert_eq!(again.bad, 0);
    }
}

/// A line of a DID file, written again as the first one.
fn check_line(line: &did_file::DidLine) {
    let text = did_file::failure_line(&line.did, &line.pds, "why");
    let again = did_file::read(text.as_bytes(), 0, 0).next();
    assert!(
        matches!(&again, Some(Ok(Ok(again))) if (&again.did, &again.pds) == (&line.did, &line.pds)),
        "{line:?}"
    );
}

/// Frames of an event stream: a sequence number is one, an error's name is short, and both readings
/// agree. A commit that is proved has the operations that it claims, with their records.
pub(crate) fn run_events(data: &[u8]) {
    let position = events::read(data);
    match &position {
        events::Frame::Event(seq) => assert!(*seq >= 0),
        events::Frame::Refused(name) => assert!(name.chars().count() <= 60),
        events::Frame::Outdated | events::Frame::Other => {}
    }
    match events::decode(&Bytes::copy_from_slice(data)) {
        Ok(Decoded::Event(event)) => {
            if let Some(seq) = event.seq() {
                assert_eq!(position, events::Frame::Event(seq));
            }
            run_event(&event);
        }
        Ok(Decoded::Unknown { kind, .. }) => assert!(kind.chars().count() <= 60),
        Ok(Decoded::Refused { name, .. }) => assert!(name.chars().count() <= 60),
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control));
            assert!(error.did.is_none_or(|did| syntax::is_did(&did)));
        }
    }
}

fn run_event(event: &Event) {
    assert!(event.did().is_none_or(syntax::is_did));
    match event {
        Event::Commit(commit) => match sync::check_commit(&commit.claim()) {
            Ok(checked) => unmeasured(|| check_proved(commit, &checked)),
            Err(error) => assert!(!error.to_string().contains(char::is_control)),
        },
        Event::Sync(of) => {
            if let Ok((_, commit)) = sync::check_sync(&of.did, &of.rev, &of.blocks) {
                assert_eq!((&commit.did, &commit.rev), (&of.did, &of.rev));
            }
        }
        Event::Identity(_) | Event::Account(_) | Event::Info(_) => {}
    }
}

fn check_proved(commit: &CommitEvent, checked: &sync::CheckedCommit) {
    assert_eq!(
        (checked.did(), checked.rev()),
        (commit.did.as_str(), commit.rev.as_str())
    );
    assert_eq!(checked.ops.len(), commit.ops.len());
    for (op, claimed) in checked.ops.iter().zip(&commit.ops) {
        assert_eq!((op.cid, op.prev), (claimed.cid, claimed.prev));
        assert_eq!(op.record.is_some(), op.action != sync::Action::Delete);
        if let (Some(cid), Some(record)) = (op.cid, &op.record) {
            assert!(cid.matches(record));
        }
    }
}

/// A document that holds what `document` says.
fn written(document: &Document) -> String {
    let (kind, key) = document.signing_key.split_once(' ').expect("kind and key");
    let aliases = document
        .handle
        .iter()
        .map(|handle| format!("at://{handle}"));
    json!({
        "id": DID,
        "alsoKnownAs": aliases.collect::<Vec<_>>(),
        "verificationMethod": [{
            "id": "#atproto", "type": kind, "controller": DID, "publicKeyMultibase": key,
        }],
        "service": [{
            "id": "#atproto_pds", "type": "AtprotoPersonalDataServer",
            "serviceEndpoint": document.pds,
        }],
    })
    .to_string()
}

/// What a document promises: it can be stored and asked, and says the same when it is read again.
fn check_document(document: &Document) {
    unmeasured(|| check_parts(document));
}

fn check_parts(document: &Document) {
    let url = url::Url::parse(&document.pds).expect("the URL of a PDS");
    assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
    assert!(url.username().is_empty() && url.password().is_none());
    assert!(!document.pds.contains(char::is_control));
    if let Some(handle) = &document.handle {
        assert!(!handle.is_empty() && handle.len() <= 253 && !handle.contains(char::is_control));
    }
    let again = document::parse(written(document).as_bytes(), DID);
    assert_eq!(again.as_ref(), Ok(document));
}

/// DID documents.
pub(crate) fn run_document(data: &[u8]) {
    match document::parse(data, DID) {
        Ok(document) => check_document(&document),
        // What a server sent goes to people and into the database.
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
}

/// Pages of the PLC export.
pub(crate) fn run_export(data: &[u8]) {
    let page = export::read_page(data);
    let lines = data.split(|b| *b == b'\n').count() as u64;
    assert!(page.bad_lines + page.latest.len() as u64 <= lines);
    if let Some(cursor) = &page.cursor {
        assert!(cursor.len() <= 64 && cursor.bytes().all(|b| b.is_ascii_graphic()));
    }
    for (did, latest) in &page.latest {
        assert!(syntax::is_did(did));
        if let Latest::Document(document) = latest {
            check_document(document);
        }
    }
}
