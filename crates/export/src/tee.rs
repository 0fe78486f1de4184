//! Files that follow the stream of records (`skyfill records`): each message becomes a row, part by
//! part, for as long as it runs.
//!
//! A part has the messages up to a number in the stream. It is done when its manifest is there,
//! which says that number; only then are they acknowledged. So whenever the process stops, the next
//! one goes on after the last part that is done: there is no torn file, no message is in two parts,
//! and none is missing. [`nats::reader`] says how the stream keeps what is not stored.
//!
//! Rows are changes: whoever wants the records takes the newest row of each URI, and leaves out
//! those that say that it is gone (docs/reference/export.md).

use crate::choice::Choice;
use crate::encode::{Change, Source};
use crate::folder::Folder;
use crate::part::{Common, Part};
use crate::partitions::{Content, OTHERS};
use crate::plan::{FileEntry, Format, MANIFEST, TEE, VERSION, is_ours, manifest_of, part_of};
use crate::tally::{Tallies, add_all};
use atrepo::syntax;
use fetch::Spool;
use ledger::failpoint;
use nats::reader::{Mark, RecordMessage, RecordReader};
use nats::{Connection, NatsError, Settings};
use observe::units::counted;
use observe::{Counter, Progress};
use process::{Failure, Stop, clock};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long it waits for a message before it looks at the clock.
const WAIT: Duration = Duration::from_millis(200);
/// The pause after a fault.
const PAUSE: Duration = Duration::from_secs(1);
/// Memory for messages that have come and are not read.
const MESSAGES: usize = 8 << 20;
/// The version of messages that this one understands (docs/how-to/records.md).
const MESSAGE_VERSION: u32 = 1;

/// How to follow the stream.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder.
    pub folder: PathBuf,
    /// The form of the files.
    pub format: Format,
    /// The collections.
    pub choice: Choice,
    /// Messages of a part, at most.
    pub part_records: u64,
    /// Longest time from the first message of a part to its files.
    pub every: Duration,
    /// Whether it ends when the stream has nothing more.
    pub until_read: bool,
    /// Memory of the process, in bytes.
    pub memory: u64,
    /// Where rows wait that exceed it.
    pub spool: Spool,
}

/// What a folder is of, written first and whenever the reader's consumer changes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Identity {
    version: u32,
    format: Format,
    stream: String,
    /// The chosen collections; none if all are.
    collections: Vec<String>,
    created: String,
    reader: String,
    consumer: u64,
}

/// What was done of a part.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct PartManifest {
    /// The first and the last message in it.
    first: u64,
    through: u64,
    messages: u64,
    /// Messages that this version does not understand.
    unknown: u64,
    collections: Tallies,
    files: Vec<FileEntry>,
}

/// What the folder holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// The form of its files.
    pub format: Format,
    /// The stream.
    pub stream: String,
    /// The last message that is in the files.
    pub through: u64,
    /// Parts that are done.
    pub parts: usize,
    /// Messages that were read.
    pub messages: u64,
    /// Of these, messages that this version does not understand.
    pub unknown: u64,
    /// Rows in all files.
    pub rows: u64,
    /// Size of all files.
    pub bytes: u64,
    /// Counts and hashes; a row counts as a record.
    pub collections: Tallies,
}

impl Teed {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let manifest = &self.manifest;
        json!({
            "through": manifest.through,
            "parts": manifest.parts,
            "messages": manifest.messages,
            "unknown": manifest.unknown,
            "rows": manifest.rows,
            "bytes": manifest.bytes,
            "collections": manifest.collections,
        })
    }
}

impl Manifest {
    fn add(&mut self, part: &PartManifest) {
        self.through = part.through;
        self.parts += 1;
        self.messages += part.messages;
        self.unknown += part.unknown;
        self.bytes += part.files.iter().map(|file| file.bytes).sum::<u64>();
        add_all(&mut self.collections, &part.collections);
        self.rows = self.collections.values().map(|tally| tally.records).sum();
    }
}

/// What a folder holds, and why it came to no more.
#[derive(Clone, Debug)]
pub struct Teed {
    /// What the folder holds.
    pub manifest: Manifest,
    /// Messages of this time that this version does not understand.
    pub unknown: u64,
    /// Whether it was stopped.
    pub is_stopped: bool,
}

/// Reads the stream, whose name `settings` have, into the folder.
///
/// # Errors
/// The stream, the folder or the spool cannot be used.
pub fn tee(options: &Options, settings: &Settings, stop: &Stop) -> Result<Teed, Failure> {
    let folder = Folder::open(&options.folder)?;
    let (mut identity, manifest) = read_folder(options, settings.stream(), &folder)?;
    let before = manifest.unknown;
    let teed = |manifest: Manifest, is_stopped| Teed {
        unknown: manifest.unknown - before,
        manifest,
        is_stopped,
    };
    let mut connection = match Connection::open(settings, stop) {
        Ok(connection) => connection,
        Err(NatsError::Stopped) => return Ok(teed(manifest, true)),
        Err(error) => return Err(error.into()),
    };
    let counter = Counter::rated("messages_read", "messages");
    let progress = Progress::begin("tee", vec![counter.clone()], None);
    let mut work = Work {
        options,
        folder: &folder,
        counter,
        stop,
        manifest,
    };
    loop {
        let mut reader = match open(connection, &mut identity, work.manifest.through, &folder) {
            Ok(reader) => reader,
            Err(_) if stop.is_set() => return Ok(teed(work.manifest, true)),
            Err(failure) => return Err(failure),
        };
        let (shown, through) = (reader.shown(), work.manifest.through);
        observe::log!("reading {shown} after message {through}");
        match work.read(&mut reader) {
            Ok(is_stopped) => {
                drop(progress);
                return Ok(teed(work.manifest, is_stopped));
            }
            Err(Fault::Failed(failure)) => return Err(failure),
            Err(Fault::Stream(error)) => tracing::warn!("{error}; reading again"),
        }
        connection = reader.into_connection();
        if !stop.waits().sleep(PAUSE) {
            return Ok(teed(work.manifest, true));
        }
    }
}

/// Why the reading broke off.
enum Fault {
    /// The stream has to be opened again.
    Stream(NatsError),
    Failed(Failure),
}

impl From<NatsError> for Fault {
    fn from(error: NatsError) -> Self {
        match error.may_pass() {
            true => Self::Stream(error),
            false => Self::Failed(error.into()),
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Opens the stream after the last message that is in the files.
fn open(
    connection: Connection,
    identity: &mut Identity,
    through: u64,
    folder: &Folder,
) -> Result<RecordReader, Failure> {
    let mut mark = Mark {
        created: identity.created.clone(),
        reader: identity.reader.clone(),
        consumer: identity.consumer,
        through,
    };
    RecordReader::open(connection, &mut mark, MESSAGES, |mark| {
        identity.created.clone_from(&mark.created);
        identity.consumer = mark.consumer;
        folder.write_json(TEE, identity).map(drop)
    })
}

/// What the folder is of, and what it holds. Files of a part that was not done are removed.
fn read_folder(
    options: &Options,
    stream: &str,
    folder: &Folder,
) -> Result<(Identity, Manifest), Failure> {
    let words = options.choice.words();
    let identity = match folder.read_json::<Identity>(TEE)? {
        Some(identity) => {
            let is_same = identity.version == VERSION
                && identity.format == options.format
                && identity.stream == stream
                && identity.collections == words;
            if !is_same {
                return Err(Failure::usage(format!(
                    "{} is of another stream, format or collections",
                    folder.path(TEE).display()
                ))
                .hint("give the same arguments to continue it, or name another folder"));
            }
            identity
        }
        None => {
            folder.require_empty(TEE)?;
            let identity = Identity {
                version: VERSION,
                format: options.format,
                stream: stream.to_owned(),
                collections: words,
                created: String::new(),
                reader: new_reader(folder),
                consumer: 0,
            };
            folder.write_json(TEE, &identity)?;
            identity
        }
    };
    let mut manifest = Manifest {
        version: VERSION,
        format: options.format,
        stream: stream.to_owned(),
        through: 0,
        parts: 0,
        messages: 0,
        unknown: 0,
        rows: 0,
        bytes: 0,
        collections: Tallies::new(),
    };
    while let Some(part) = folder.read_json::<PartManifest>(&manifest_of(manifest.parts))? {
        manifest.add(&part);
    }
    let told = folder.read_json::<Manifest>(MANIFEST)?;
    if told.is_some_and(|told| told.parts > manifest.parts) {
        let missing = folder.path(&manifest_of(manifest.parts));
        return Err(Failure::new(format!("{}: missing", missing.display())).hint(
            "restore it; or begin with a new folder, and publish everything once more: skyfill records --restart",
        ));
    }
    let removed = folder.remove(&|name, is_unfinished| match is_unfinished {
        true => is_ours(name),
        false => part_of(name).is_some_and(|part| part >= manifest.parts),
    })?;
    if removed > 0 {
        let files = counted(removed, "file");
        observe::log!("removed {files} of a part that was not done");
    }
    Ok((identity, manifest))
}

/// A name for a reader that no other reader of the stream has.
fn new_reader(folder: &Folder) -> String {
    let mut hash = Sha256::new();
    hash.update(folder.path("").as_os_str().as_encoded_bytes());
    hash.update(clock::now(None).unwrap_or(0).to_le_bytes());
    hash.update(std::process::id().to_le_bytes());
    let name = hash.finalize();
    let first: String = name
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("tee-{first}")
}

/// Reading, part by part.
struct Work<'w> {
    options: &'w Options,
    folder: &'w Folder,
    counter: Counter,
    stop: &'w Stop,
    manifest: Manifest,
}

impl Work<'_> {
    /// Reads parts until it is stopped (true), or the stream has nothing more.
    fn read(&mut self, reader: &mut RecordReader) -> Result<bool, Fault> {
        loop {
            let options = self.options;
            let known = self.manifest.collections.clone();
            let common = Common {
                folder: self.folder,
                format: options.format,
                content: Content::Changes,
                now: clock::now(None)?,
                choice: &options.choice,
                collections: Some(&known),
                spool: &options.spool,
                memory: usize::try_from(options.memory)
                    .unwrap_or(usize::MAX)
                    .saturating_sub(MESSAGES),
                stop: self.stop,
            };
            let mut filling = Filling {
                part: Part::new(&common, self.manifest.parts),
                first: 0,
                through: self.manifest.through,
                messages: 0,
                unknown: 0,
            };
            let filled = match self.fill(reader, &mut filling) {
                // What came before the fault is as good as any.
                Err(Fault::Stream(error)) => Filled::Broken(error),
                filled => filled?,
            };
            if matches!(filled, Filled::Stopped) {
                return Ok(true);
            }
            if filling.messages > 0 && !self.finish(filling, reader)? {
                return Ok(true);
            }
            match filled {
                Filled::Due | Filled::Stopped => {}
                Filled::End => return Ok(false),
                Filled::Broken(error) => return Err(error.into()),
            }
        }
    }

    /// Fills a part.
    fn fill(&self, reader: &mut RecordReader, filling: &mut Filling<'_>) -> Result<Filled, Fault> {
        let (since, mut began) = (Instant::now(), None);
        loop {
            if self.stop.is_set() {
                return Ok(Filled::Stopped);
            }
            match reader.next(WAIT)? {
                Some(message) => {
                    began.get_or_insert_with(Instant::now);
                    filling.add(&message)?;
                    self.counter.add(1);
                }
                None if self.options.until_read && reader.is_at_end()? => return Ok(Filled::End),
                None => {}
            }
            // A part that waits for its first message begins anew, with the months of that time.
            let is_due = began.unwrap_or(since).elapsed() >= self.options.every;
            if is_due || filling.messages >= self.options.part_records {
                return Ok(Filled::Due);
            }
        }
    }

    /// Writes a part, and what the folder holds then; false if it was stopped before.
    fn finish(&mut self, filling: Filling<'_>, reader: &mut RecordReader) -> Result<bool, Fault> {
        let Filling {
            part,
            first,
            through,
            messages,
            unknown,
        } = filling;
        let number = part.number();
        let Some(written) = part.write()? else {
            return Ok(false);
        };
        let done = PartManifest {
            first,
            through,
            messages,
            unknown,
            collections: written.collections,
            files: written.files,
        };
        self.folder.write_json(&manifest_of(number), &done)?;
        failpoint::pass("part-done");
        self.manifest.add(&done);
        self.folder.write_json(MANIFEST, &self.manifest)?;
        reader.acknowledge();
        tracing::debug!("part {number} is done, through message {through}");
        Ok(true)
    }
}

/// Why a part is not filled further.
enum Filled {
    /// It is as large or as old as a part gets.
    Due,
    /// The stream has nothing more.
    End,
    /// The stream has to be opened again.
    Broken(NatsError),
    /// It was stopped.
    Stopped,
}

/// A part that is being filled.
struct Filling<'f> {
    part: Part<'f>,
    first: u64,
    through: u64,
    messages: u64,
    unknown: u64,
}

impl Filling<'_> {
    fn add(&mut self, message: &RecordMessage) -> Result<(), Failure> {
        if self.messages == 0 {
            self.first = message.sequence;
        }
        self.through = message.sequence;
        self.messages += 1;
        let text = std::str::from_utf8(&message.content);
        let told = text.ok().and_then(|text| Some((text, Told::read(text)?)));
        let Some((text, told)) = told else {
            self.unknown += 1;
            self.part.count_unreadable(OTHERS);
            if self.unknown.is_power_of_two() {
                tracing::warn!(
                    "message {} on {} is none that skyfill records sends",
                    message.sequence,
                    observe::printable(&message.subject)
                );
            }
            return Ok(());
        };
        if !self.part.has(&told.collection) {
            return Ok(());
        }
        let Told {
            operation,
            did,
            rev,
            batch,
            collection,
            data,
            ..
        } = &told;
        let prefix = "at://".len() + did.len() + 1 + collection.len() + 1;
        self.part.add_change(&Change {
            source: Source {
                did,
                collection,
                rkey: data.uri.get(prefix..).unwrap_or_default(),
                uri: &data.uri,
                cid: data.cid.as_deref().unwrap_or_default(),
                rev: rev.as_deref(),
                indexed_at: data.timestamp.as_deref().unwrap_or_default(),
            },
            operation,
            batch: *batch,
            sequence: i64::try_from(message.sequence).unwrap_or(i64::MAX),
            json: data.obj.map(RawValue::get),
            message: text,
        })
    }
}

/// What a message tells.
#[derive(Debug, Deserialize)]
struct Told<'m> {
    version: u32,
    #[serde(borrow)]
    operation: Cow<'m, str>,
    #[serde(borrow)]
    did: Cow<'m, str>,
    #[serde(borrow)]
    rev: Option<Cow<'m, str>>,
    batch: i64,
    #[serde(borrow)]
    collection: Cow<'m, str>,
    #[serde(borrow)]
    data: Data<'m>,
}

#[derive(Debug, Deserialize)]
struct Data<'m> {
    #[serde(borrow)]
    uri: Cow<'m, str>,
    #[serde(borrow)]
    cid: Option<Cow<'m, str>>,
    #[serde(borrow)]
    timestamp: Option<Cow<'m, str>>,
    #[serde(borrow)]
    obj: Option<&'m RawValue>,
}

impl<'m> Told<'m> {
    /// Reads a message; nothing if it is not one of `skyfill records`.
    fn read(text: &'m str) -> Option<Self> {
        let told: Self = serde_json::from_str(text).ok()?;
        let key = told
            .data
            .uri
            .strip_prefix("at://")?
            .strip_prefix(&*told.did)?
            .strip_prefix('/')?;
        let (collection, _) = syntax::split_key(key.as_bytes())?;
        let is_known = told.version == MESSAGE_VERSION
            && collection == told.collection
            && matches!(&*told.operation, "create" | "update" | "delete")
            // A line of JSON lines is one line.
            && !text.contains(['\n', '\r']);
        is_known.then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_or_refused() {
        let message = r#"{"version":1,"type":"commit","operation":"update","did":"did:plc:a","rev":"3k","batch":7,
            "collection":"com.example.thing","data":{"uri":"at://did:plc:a/com.example.thing/self","cid":"bafy",
            "timestamp":"2024-01-01T00:00:00.000Z","obj":{"text":"a \"quoted\" word"}}}"#
            .replace("\n            ", "");
        let told = Told::read(&message).unwrap();
        assert_eq!(told.batch, 7);
        assert_eq!(
            told.data.obj.map(RawValue::get),
            Some(r#"{"text":"a \"quoted\" word"}"#)
        );
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"update\"", "\"rename\""),
            ("did:plc:a/", "did:plc:b/"),
            ("thing/self", "thing/../self"),
            ("com.example.thing\",", "com.example.other\","),
            ("\"batch\":7", "\"batch\":\"7\""),
            ("{\"version\"", "{\n\"version\""),
        ] {
            let other = message.replacen(from, to, 1);
            assert_ne!(message, other, "{from}");
            assert!(Told::read(&other).is_none(), "{to}");
        }
    }
}
