//! Records for other programs: what the table `record` has, and each change of it, as messages of a
//! stream.
//!
//! [`publish`] sends batches, one after the other. A batch is read in one snapshot (`read`), then
//! sent, and when the stream has all of it, the ledger forgets what it was for
//! ([`ledger::publication`]). So a kill at any moment repeats a batch and loses none. So does a
//! stream that had no consumer, if it keeps messages only until they are read.
//! `docs/explanation/records.md` says what readers can rely on, and what it costs.

mod batch;
mod message;
mod read;

use batch::{Batch, Done, Source};
use export::Choice;
use fetch::Spool;
use ledger::locks::{self, Hold, Lock};
use ledger::publication::{self, Publication};
use ledger::{dropped, failpoint};
use nats::records::{Publisher, RecordLimits};
use nats::{Connection, NatsError, Settings};
use observe::{Counter, Progress};
use pg::{DbError, Persistent};
use process::{Database, Failure, Stop};
use read::{Next, RECORDS, Reader};
use std::time::Duration;

/// How long it waits when nothing is to be published.
const IDLE: Duration = Duration::from_millis(200);
/// How long it waits for an index, or for transactions that were open.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What helps when a publication cannot go on.
const AGAIN: &str = "to publish everything once more, add --restart";

/// How to publish.
pub struct Options {
    /// The servers; the stream's name begins the subjects.
    pub settings: Settings,
    /// What a new stream is to be.
    pub limits: RecordLimits,
    /// The collections.
    pub choice: Choice,
    /// Whether everything is published once more.
    pub restart: bool,
    /// Whether it ends when nothing is left to publish.
    pub until_published: bool,
    /// Where a batch waits that exceeds its memory.
    pub spool: Spool,
}

/// What was published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Messages.
    pub messages: u64,
    /// Batches.
    pub batches: u64,
    /// Whether it ended because it was stopped.
    pub is_stopped: bool,
}

/// Publishes until it is stopped, or everything is published.
///
/// # Errors
/// The database, the server or the stream refuses it.
pub fn publish(database: &Database, options: &Options, stop: &Stop) -> Result<Summary, Failure> {
    let prefix = options.settings.stream().to_owned();
    let stream = format!("{prefix}-records");
    let words = options.choice.words();
    let mut session = session(database, stop);
    let known = read(&mut session, database)?.filter(|_| !options.restart);
    if let Some(known) = &known {
        require_same(known, &stream, &words)?;
    }
    let settings = options.settings.clone().with_stream(stream.clone());
    let opened = Connection::open(&settings, stop)
        .and_then(|connection| Publisher::open(connection, &prefix, &options.limits));
    let publisher = match opened {
        Ok(publisher) => publisher,
        Err(NatsError::Stopped) => return Ok(Summary::stopped()),
        Err(error) => return Err(error.into()),
    };
    if publisher.is_new() && known.as_ref().is_some_and(|known| known.batch > 0) {
        let lacks = format!(
            "{} is new, and lacks what was published before",
            publisher.shown()
        );
        return Err(Failure::new(lacks).hint(AGAIN));
    }
    if known.is_none() {
        session
            .run(|client| publication::begin(client, &database.schema, (&stream, &words)))
            .map_err(|error| database.db_failure(&error))?;
    }
    let is_settled = settle(&mut session, database, stop)?;
    let Some(publication) = read(&mut session, database)?.filter(|_| is_settled) else {
        return Ok(Summary::stopped());
    };
    observe::log!("publishing to {}", publisher.shown());
    let counter = Counter::rated("records_published", "records");
    let progress = Progress::begin("records", vec![counter.clone()], None);
    let mut work = Work {
        database,
        options,
        stop,
        publisher,
        session,
        name: publication.name,
        published_to: publication.published_to,
        records: RECORDS,
        counter,
        summary: Summary::default(),
    };
    let outcome = work.run();
    drop(progress);
    outcome.map(|()| work.summary)
}

/// Ends the publication, so that changes are no longer noted; whether there was one.
///
/// # Errors
/// The database refuses it.
pub fn end(database: &Database, stop: &Stop) -> Result<bool, Failure> {
    let schema = &database.schema;
    session(database, stop)
        .run(|client| publication::end(client, schema))
        .map_err(|error| database.db_failure(&error))
}

/// A session that publishes alone.
fn session<'d>(database: &'d Database, stop: &'d Stop) -> Persistent<'d> {
    Persistent::new(&database.url, stop.waits()).with_setup(move |client| {
        locks::acquire(client, Lock::Records, Hold::Session, stop.waits())?;
        read::begin(client, &database.schema)
    })
}

fn read(session: &mut Persistent<'_>, database: &Database) -> Result<Option<Publication>, Failure> {
    session
        .run(|client| publication::read(client, &database.schema))
        .map_err(|error| database.db_failure(&error))
}

/// Waits for transactions that may have missed the begin of the publication; false if it was
/// stopped.
fn settle(session: &mut Persistent<'_>, database: &Database, stop: &Stop) -> Result<bool, Failure> {
    let mut said = false;
    while !session
        .run(|client| publication::is_settled(client, &database.schema))
        .map_err(|error| database.db_failure(&error))?
    {
        if !std::mem::replace(&mut said, true) {
            observe::log!("waiting for transactions that were open before the publication began");
        }
        if !stop.waits().sleep(LOOK_EVERY) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes sure that a publication that has begun goes on as it began.
fn require_same(known: &Publication, stream: &str, words: &[String]) -> Result<(), Failure> {
    if known.stream != stream {
        return Err(Failure::new(format!(
            "records are published to the stream {}, not to {stream}",
            known.stream
        ))
        .hint(AGAIN));
    }
    if known.collections != words {
        let named = match known.collections.as_slice() {
            [] => "all collections".to_owned(),
            named => named.join(","),
        };
        return Err(
            Failure::new(format!("the publication has begun with {named}"))
                .hint(format!("name the same with --collections; {AGAIN}")),
        );
    }
    Ok(())
}

impl Summary {
    fn stopped() -> Self {
        Self {
            is_stopped: true,
            ..Self::default()
        }
    }
}

struct Work<'w> {
    database: &'w Database,
    options: &'w Options,
    stop: &'w Stop,
    publisher: Publisher,
    session: Persistent<'w>,
    /// The publication.
    name: String,
    /// The last account of the first round; nothing once that is done.
    published_to: Option<String>,
    /// Records of the next batch, about.
    records: u64,
    counter: Counter,
    summary: Summary,
}

impl Work<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let mut waits_for_index = false;
        while !self.stop.is_set() {
            if self.lacks_index()? {
                if !std::mem::replace(&mut waits_for_index, true) {
                    observe::log!("waiting until the indexes of the table record are rebuilt");
                }
                if !self.stop.waits().sleep(LOOK_EVERY) {
                    break;
                }
                continue;
            }
            waits_for_index = false;
            // In turns, so that neither waits for the other.
            let mut has_any = self.publish_batch(&Source::Notes {
                round_at: self.published_to.clone(),
            })?;
            if let Some(after) = self.published_to.clone() {
                has_any |= self.publish_batch(&Source::Round { after })?;
            }
            if has_any {
                continue;
            }
            if self.options.until_published && self.published_to.is_none() {
                return Ok(());
            }
            if !self.stop.waits().sleep(IDLE) {
                break;
            }
        }
        self.summary.is_stopped = true;
        Ok(())
    }

    /// Whether a fresh load has dropped the indexes by which records are read.
    fn lacks_index(&mut self) -> Result<bool, Failure> {
        let schema = &self.database.schema;
        let dropped = self.session.run(|client| dropped::list(client, schema));
        let dropped = dropped.map_err(|error| self.database.db_failure(&error))?;
        Ok(dropped.iter().any(|dropped| dropped.table == "record"))
    }

    /// Publishes a batch; false if there was nothing to publish.
    fn publish_batch(&mut self, source: &Source) -> Result<bool, Failure> {
        let reader = Reader {
            schema: &self.database.schema,
            name: &self.name,
            records: self.records,
            choice: &self.options.choice,
            spool: &self.options.spool,
            largest: self.publisher.largest(),
            has_new_ids: self.publisher.drops_unread(),
        };
        let read = self.session.run(|client| reader.read(client, source));
        let next = read.map_err(|error| {
            let failure = self.database.db_failure(&error);
            failure.hint("what was published stays published; fix this, then run it again")
        })??;
        let Batch { messages, done } = match next {
            Next::Nothing => return Ok(false),
            Next::Batch(batch) => batch,
            Next::TooLarge { repo, failure } => return self.split(repo, failure),
        };
        self.records = (self.records * 2).min(RECORDS);
        let before = self.summary.messages;
        let sent = messages.each(|message| {
            self.publisher
                .publish(message.collection, message.id, message.content.to_vec())?;
            failpoint::pass("publishing");
            self.counter.add(1);
            self.summary.messages += 1;
            Ok::<(), Failure>(())
        });
        // What is on the way is waited for in any case.
        let finished = self.publisher.finish_batch();
        let kept = match (sent, finished) {
            (Ok(()), Ok(())) if self.summary.messages == before => Ok(true),
            (Ok(()), Ok(())) => self.publisher.was_kept(),
            (Err(failure), Ok(())) => return Err(failure),
            (_, Err(error)) => Err(error),
        };
        match kept {
            Ok(true) => {}
            // Nobody read it: it is read from the database and published again.
            Ok(false) => return Ok(true),
            // The next start repeats the batch.
            Err(NatsError::Stopped) if self.stop.is_set() => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        failpoint::pass("published");
        self.forget(done)?;
        self.summary.batches += 1;
        Ok(true)
    }

    /// Makes the next batch smaller. A repo that alone is too large for a batch is published record
    /// by record.
    fn split(&mut self, repo: Option<(String, Done)>, failure: Failure) -> Result<bool, Failure> {
        match repo {
            Some((did, done)) => {
                observe::log!("{did} is too large for one batch; its records come in several");
                self.note_each(&did, done)?;
            }
            None if self.records > 1 => self.records /= 2,
            None => return Err(failure),
        }
        Ok(true)
    }

    /// Has the ledger note each record of a repo, in place of what stands for all of them.
    fn note_each(&mut self, did: &str, done: Done) -> Result<(), Failure> {
        let (schema, name) = (&self.database.schema, &self.name);
        let noted = self.session.run(|client| {
            let mut txn = client.transaction()?;
            publication::note_each(&mut txn, schema, name, did)?;
            done.note(&mut txn, schema, name)?;
            txn.commit()
        });
        self.came_to(noted, done)
    }

    /// Has the ledger forget what a batch was for.
    fn forget(&mut self, done: Done) -> Result<(), Failure> {
        let (schema, name) = (&self.database.schema, &self.name);
        let noted = self.session.run(|client| done.note(client, schema, name));
        self.came_to(noted, done)
    }

    /// Goes on after what the ledger has noted as done.
    fn came_to(&mut self, noted: Result<(), DbError>, done: Done) -> Result<(), Failure> {
        noted.map_err(|error| self.database.db_failure(&error))?;
        if let Done::Round(to) = done {
            self.published_to = to;
        }
        Ok(())
    }
}
