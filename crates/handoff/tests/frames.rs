//! Properties of the framed form, for any sequence of parts: it comes back however the stream is
//! cut into reads; a stream that was cut ends in a prefix of it, and a changed one never in a part
//! with other blocks.

use atrepo::cbor::Writer;
use atrepo::{Cid, Codec, RecordError};
use handoff::account::STATUSES;
use handoff::frames::{self, Frame, FrameError, Frames, MAGIC, PartHeader, Step};
use handoff::part::{IncomingPart, PartError};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;

/// What a producer sends.
#[derive(Clone, Debug, PartialEq)]
enum Sent {
    Part(PartHeader, Vec<Entry>),
    Status(String, String),
}

/// Its block, or why that is not sent.
type Block = Result<Vec<u8>, RecordError>;
/// Key, CID and block of an entry.
type Entry = (Vec<u8>, Cid, Block);

/// A stream, and where each of its frames lies in it.
struct Stream {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Stream {
    fn of(sent: &[Sent]) -> Self {
        let mut stream = Self {
            bytes: MAGIC.to_vec(),
            frames: Vec::new(),
        };
        for item in sent {
            match item {
                Sent::Status(did, status) => {
                    stream.append(|out| frames::append_status(out, did, status));
                }
                Sent::Part(header, entries) => {
                    stream.append(|out| frames::append_part(out, header));
                    for (key, cid, block) in entries {
                        stream.append(|out| match block {
                            Ok(block) => frames::append_entry(out, key, cid, block),
                            Err(error) => frames::append_unread(out, key, cid, error),
                        });
                    }
                    stream.append(|out| frames::append_end(out, entries.len() as u64));
                }
            }
        }
        stream
    }

    fn append(&mut self, frame: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        frame(&mut self.bytes);
        self.frames.push(start..self.bytes.len());
    }
}

/// What one read of a socket brings.
#[derive(Clone, Copy, Debug)]
enum Came {
    Bytes(usize),
    Nothing(ErrorKind),
}

/// A socket that brings its bytes in these portions, over and over.
struct Socket<'b> {
    bytes: &'b [u8],
    portions: std::iter::Cycle<std::iter::Copied<std::slice::Iter<'b, Came>>>,
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.portions.next().unwrap_or(Came::Bytes(usize::MAX)) {
            Came::Bytes(most) => {
                let most = most.min(buffer.len());
                self.bytes.read(&mut buffer[..most])
            }
            Came::Nothing(why) => Err(why.into()),
        }
    }
}

/// What a consumer has of a stream when it ends.
#[derive(Default)]
struct Received {
    frames: usize,
    items: Vec<Sent>,
    open: Option<(IncomingPart, Vec<Entry>)>,
}

/// Why a consumer does not read on.
#[derive(Debug)]
#[allow(
    dead_code,
    reason = "the fields are for the messages of failed assertions"
)]
enum Refused {
    Frame(FrameError),
    Part(PartError),
    Order,
}

impl From<FrameError> for Refused {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl From<PartError> for Refused {
    fn from(error: PartError) -> Self {
        Self::Part(error)
    }
}

impl Received {
    fn on_frame(&mut self, frame: Frame<'_>) -> Result<(), Refused> {
        self.frames += 1;
        match frame {
            Frame::Part(header) if self.open.is_none() => {
                self.open = Some((IncomingPart::begin(header)?, Vec::new()));
            }
            Frame::Part(_) => return Err(Refused::Order),
            Frame::Entry(key, cid, block) => self.on_entry(key, cid, Ok(block))?,
            Frame::Unread(key, cid, error) => self.on_entry(key, cid, Err(error))?,
            Frame::End(count) => {
                let (part, entries) = self.open.take().ok_or(Refused::Order)?;
                part.end(count)?;
                self.items.push(Sent::Part(part.into_header().0, entries));
            }
            Frame::Status(did, status) => self.items.push(Sent::Status(did, status)),
        }
        Ok(())
    }

    fn on_entry(
        &mut self,
        key: &[u8],
        cid: Cid,
        block: Result<&[u8], RecordError>,
    ) -> Result<(), Refused> {
        let (part, entries) = self.open.as_mut().ok_or(Refused::Order)?;
        part.entry(key, &cid, &block)?;
        entries.push((key.to_vec(), cid, block.map(<[u8]>::to_vec)));
        Ok(())
    }
}

/// Reads a stream, of which the first `before` bytes were read already, to its end.
fn receive(bytes: &[u8], before: usize, portions: &[Came]) -> (Received, Result<(), Refused>) {
    let socket = Socket {
        bytes: &bytes[before..],
        portions: portions.iter().copied().cycle(),
    };
    let mut frames = Frames::new(socket, &bytes[..before]);
    let mut received = Received::default();
    loop {
        match frames.step(|frame| received.on_frame(frame)) {
            Ok(Step::End) if received.open.is_none() => return (received, Ok(())),
            Ok(Step::End) => return (received, Err(Refused::Order)),
            Ok(Step::Read | Step::Idle) => {}
            Err(refused) => return (received, Err(refused)),
        }
    }
}

/// Reads a stream in portions as large as the reader wants them.
fn receive_all(bytes: &[u8]) -> (Received, Result<(), Refused>) {
    receive(bytes, 0, &[Came::Bytes(usize::MAX)])
}

fn commit_of(did: &str, sig: &[u8]) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(6).text("did").text(did).text("rev");
    w.text("3jzfcijpj2z2a").text("sig").bytes(sig);
    w.text("data").cid(&Cid::of(Codec::DagCbor, sig));
    w.text("prev").null().text("version").unsigned(3);
    w.into_bytes()
}

/// Blocks of all sizes that matter: empty, small, and larger than what is read at once.
fn block() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => vec(any::<u8>(), 0..200),
        1 => (any::<u8>(), 250_000..400_000usize).prop_map(|(byte, size)| vec![byte; size]),
    ]
}

fn cid_and_block() -> impl Strategy<Value = (Cid, Block)> {
    prop_oneof![
        5 => block().prop_map(|block| (Cid::of(Codec::DagCbor, &block), Ok(block))),
        1 => (any::<u8>(), any::<u64>(), any::<bool>()).prop_map(|(of, bytes, is_shared)| {
            let error = if is_shared {
                RecordError::Shared { bytes }
            } else {
                RecordError::TooLarge { bytes }
            };
            (Cid::of(Codec::DagCbor, &[of]), Err(error))
        }),
    ]
}

/// Collections of each of three parts.
const COLLECTIONS: [&[&str]; 3] = [
    &["app.bsky.feed.post", "org.example.other"],
    rows::route::SECOND,
    rows::route::THIRD,
];

/// A part of the account with this number.
fn part(account: usize) -> impl Strategy<Value = Sent> {
    let number = prop_oneof![Just((0u8, 1u8)), (0..3u8).prop_map(|part| (part, 3))];
    number.prop_flat_map(move |(part, parts)| {
        let key = (select(COLLECTIONS[usize::from(part)]), "[a-z0-9]{1,12}")
            .prop_map(|(collection, rkey)| format!("{collection}/{rkey}").into_bytes());
        let entries = btree_map(key, cid_and_block(), 0..8);
        let rest = (
            "[ -~]{0,40}",
            0..=1u64 << 40,
            i64::MIN + 1..=i64::MAX,
            vec(any::<u8>(), 64),
        );
        (entries, rest).prop_map(move |(entries, (pds, car_bytes, now, sig))| {
            let did = format!("did:plc:account{account}");
            let header = PartHeader {
                commit: commit_of(&did, &sig),
                did,
                pds,
                part,
                parts,
                car_bytes,
                now,
            };
            Sent::Part(header, in_order(entries))
        })
    })
}

fn in_order(entries: BTreeMap<Vec<u8>, (Cid, Block)>) -> Vec<Entry> {
    let entries = entries.into_iter();
    entries
        .map(|(key, (cid, block))| (key, cid, block))
        .collect()
}

/// Parts and states of accounts, each of an account of its own.
fn sent() -> impl Strategy<Value = Vec<Sent>> {
    vec(any::<bool>(), 0..6).prop_flat_map(|are_parts| {
        let items = are_parts.into_iter().enumerate().map(|(account, is_part)| {
            if is_part {
                return part(account).boxed();
            }
            let did = format!("did:plc:account{account}");
            select(STATUSES)
                .prop_map(move |status| Sent::Status(did.clone(), status.to_owned()))
                .boxed()
        });
        items.collect::<Vec<_>>()
    })
}

/// Portions in which a stream comes; at least one of them has bytes.
fn portions() -> impl Strategy<Value = Vec<Came>> {
    let size = || prop_oneof![1..40usize, 1000..400_000usize];
    let why = [
        ErrorKind::WouldBlock,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
    ];
    let portion = prop_oneof![
        4 => size().prop_map(Came::Bytes),
        1 => select(why.to_vec()).prop_map(Came::Nothing),
    ];
    (vec(portion, 0..20), size()).prop_map(|(mut portions, size)| {
        portions.push(Came::Bytes(size));
        portions
    })
}

/// The blocks of a part, in order: what hashes cover.
fn blocks(entries: &[Entry]) -> Vec<&Vec<u8>> {
    let blocks = entries.iter().map(|(.., block)| block.as_ref());
    blocks.filter_map(Result::ok).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_sent_comes_back_however_it_is_cut_into_reads(
        sent in sent(),
        portions in portions(),
        before in 0..=MAGIC.len(),
    ) {
        let stream = Stream::of(&sent);
        let (received, outcome) = receive(&stream.bytes, before, &portions);
        prop_assert!(outcome.is_ok(), "{outcome:?}");
        prop_assert_eq!(received.frames, stream.frames.len());
        prop_assert_eq!(received.items, sent);
    }

    #[test]
    fn a_stream_that_was_cut_ends_in_a_prefix(sent in sent(), at in any::<Index>()) {
        let stream = Stream::of(&sent);
        let at = at.index(stream.bytes.len());
        let whole = stream.frames.iter().filter(|frame| frame.end <= at).count();
        let (received, outcome) = receive_all(&stream.bytes[..at]);
        prop_assert_eq!(received.frames, whole);
        prop_assert!(sent.starts_with(&received.items));
        // It is an error unless it was cut between two items, or before anything came.
        let is_between = at == 0
            || at == MAGIC.len()
            || stream.frames.iter().any(|frame| frame.end == at);
        let is_clean = is_between && received.open.is_none();
        prop_assert_eq!(outcome.is_ok(), is_clean, "{:?}", outcome);
    }

    #[test]
    fn a_changed_frame_makes_no_part_with_other_blocks(
        sent in sent().prop_filter("there is nothing to change", |sent| !sent.is_empty()),
        frame in any::<Index>(),
        (from, to) in any::<(Index, Index)>(),
        instead in vec(any::<u8>(), 0..6),
    ) {
        let stream = Stream::of(&sent);
        let number = frame.index(stream.frames.len());
        let frame = stream.frames[number].clone();
        let (from, to) = (from.index(frame.len() + 1), to.index(frame.len() + 1));
        let changed = frame.start + from.min(to)..frame.start + from.max(to);
        let mut bytes = stream.bytes.clone();
        bytes.splice(changed, instead);
        let (received, outcome) = receive_all(&bytes);
        prop_assert!(received.frames >= number, "{outcome:?}");
        for item in received.items {
            let Sent::Part(header, entries) = &item else { continue };
            let is_known = sent.iter().any(|sent| match sent {
                Sent::Part(of, were) => of.did == header.did && blocks(were) == blocks(entries),
                Sent::Status(..) => false,
            });
            prop_assert!(is_known, "{item:?}");
        }
    }
}
