//! Follows the event stream of a relay: keeps loaded tables up to date, commit by commit.
//!
//! A task reads the stream (`reading`). One thread verifies events (`verifying`, `keys`). This one
//! stores them (`applying`, [`load::live`]), another computes the derived rows that depend on them
//! (`deriving`). What cannot be verified or does not continue what is stored is fetched and merged
//! beside it (`beside`). `live` goes from a load to the stream. docs/explanation/follow.md
//! describes the whole.

mod applying;
mod beside;
mod deriving;
mod keys;
mod live;
mod options;
mod proving;
mod reading;
mod shared;
mod summary;
mod verifying;

pub use live::{go_live, is_loaded};
pub use options::{Options, relay_to_follow, relays};
pub use summary::Summary;

use crate::discovery::{list_client, relay};
use crate::run::{Session, choice_of, indexed_columns};
use applying::Appliers;
use keys::Keys;
use ledger::follow::{self, Counted};
use ledger::locks::{self, Hold, Lock};
use ledger::runs::{self, Phase, Run};
use load::live::ApplierOptions;
use load::{Notifications, fresh};
use observe::{Counter, Progress, units};
use postgres::Client;
use process::stop::UNTIL_HURRIED;
use process::{Failure, Kind, clock};
use reading::{Position, Positions, Read, Reader};
use shared::{Following, Lost, join};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{Receiver, channel};
use verifying::{Batch, Verifier};

/// Frames that wait, beside the bound on their bytes.
const MOST_FRAMES: usize = 20_000;
/// Memory of frames that wait: a sixteenth of the process's, within these bounds.
const FRAME_MEMORY: (u64, u64) = (16 << 20, 256 << 20);
/// A batch ends when it has so many events, or this long after its first one.
const BATCH_EVENTS: usize = 4000;
const BATCH_TIME: Duration = Duration::from_millis(200);
/// How it goes is noted this often.
const NOTE_EVERY: Duration = Duration::from_secs(2);
/// Attempts at each document.
const DOCUMENT_ATTEMPTS: u32 = 2;
/// So many rounds of the threads beside it must find nothing to do before it counts as done.
const ROUNDS: u64 = 3;
/// So often it looks whether there is something to do.
const TICK: Duration = Duration::from_millis(100);
/// When everything up to now is asked for, repos that are behind are fetched so often more,
/// although they would wait.
const HASTENED: u32 = 3;
/// So long these are waited for, and others that are in the way of the last derived rows.
const LAST_WAIT: Duration = Duration::from_secs(120);

/// Follows the stream until it is stopped, or has come to the present if that is asked for.
///
/// # Errors
/// Nothing was loaded, the relay no longer has the events that follow, or the database or network
/// cannot be used.
pub fn follow(session: &Session<'_>, options: &Options) -> Result<Summary, Failure> {
    match attempt(session, options)? {
        (_, Some(lost)) => Err(Failure::new(lost).hint_to_run(
            "list all hosts and fetch what changed, then follow again",
            "catch-up --follow",
        )),
        (summary, None) => Ok(summary),
    }
}

/// The same. Beside what it came to: the events that are lost, if it ended because of that.
fn attempt(session: &Session<'_>, options: &Options) -> Result<(Summary, Option<Lost>), Failure> {
    // What ends here is not all that the caller does.
    let session = &session.part();
    let database = session.database;
    let begun = pg::persist(pg::Step::Short, session.stop.waits(), || {
        begin(database, options, session.stop.waits())
    });
    let Begun {
        mut client,
        is_alone,
        last,
        known,
    } = begun.map_err(|error| database.db_failure(&error))?;
    if !is_alone {
        return Err(
            Failure::new("another skyfill follows the stream into this database")
                .hint("stop it first; `skyfill status` names it"),
        );
    }
    let run = loaded_run(last)?;
    let cursors = cursors(options, known)?;
    let shared = Following::new(session);
    std::thread::scope(|scope| {
        let (shared, run) = (&shared, &run);
        let merging = scope
            .spawn(move || shared.guarded("the thread that merges", || beside::merge(shared, run)));
        let looking = scope.spawn(move || {
            shared.guarded("the thread that looks up accounts", || {
                beside::look_up(shared)
            })
        });
        let proving = scope.spawn(move || {
            shared.guarded("the thread that proves repos", || {
                proving::prove(shared, options.proof_rate)
            })
        });
        let streamed = stream(shared, options, run, cursors, &mut client);
        if streamed.is_err() {
            shared.break_off();
        }
        shared.is_done.store(true, Ordering::SeqCst);
        // What is under way at hosts is not waited for: it is pending in the ledger.
        session.stop.set();
        let (merged, looked) = (join(merging), join(looking));
        both(both(both(join(proving), merged), looked), streamed)
    })
    .map(|summary| (summary, shared.lost.get().cloned()))
}

/// What the database says when following begins.
struct Begun {
    /// The session that holds the lock.
    client: Client,
    /// Whether it has the lock.
    is_alone: bool,
    /// The last run.
    last: Option<Run>,
    /// Where the stream of each relay continues.
    known: Vec<Option<i64>>,
}

/// Asks the database for all that is needed at the beginning.
fn begin(
    database: &process::Database,
    options: &Options,
    waits: pg::Waits<'_>,
) -> Result<Begun, pg::DbError> {
    let schema = &database.schema;
    let mut client = pg::connect(&database.url)?;
    let is_alone = locks::try_acquire(&mut client, Lock::Follow, Hold::Session)?;
    let last = runs::last(&mut client, schema)?;
    let known = options.relays.iter();
    let known = known.map(|relay| follow::begins_at(&mut client, schema, relay));
    let known = known.collect::<Result<_, _>>()?;
    fresh::prepare_probes(&mut client, schema, waits)?;
    Ok(Begun {
        client,
        is_alone,
        last,
        known,
    })
}

/// The last run, which must be done: its choices are those of what is stored now.
fn loaded_run(last: Option<Run>) -> Result<Run, Failure> {
    match last {
        None => Err(Failure::usage(
            "nothing was loaded yet, so there is nothing to keep up to date",
        )
        .hint_to_run("load first, for example", "run --discover")),
        Some(run) if run.phase != Phase::Done => {
            Err(Failure::new(format!("run {} is not done", run.id))
                .hint_to_run("finish it first", "run"))
        }
        Some(run) => Ok(run),
    }
}

/// Where each relay's stream begins.
fn cursors(
    options: &Options,
    known: Vec<Option<i64>>,
) -> Result<HashMap<String, Positions>, Failure> {
    let mut cursors = HashMap::new();
    for (at, (relay, known)) in options.relays.iter().zip(known).enumerate() {
        let given = options.cursor.filter(|_| at == 0);
        if let Some(cursor) = given.or(known) {
            let stored = Position::stored(cursor);
            cursors.insert(relay.clone(), Positions::from([stored]));
        }
    }
    match options.relays.first() {
        Some(first) if !cursors.contains_key(first) => Err(Failure::new(format!(
            "it is unknown which events of {first} are missing in the tables"
        ))
        .hint(format!(
            "bring the tables up to date first: skyfill catch-up --follow --relay {first}; or say from where on: --cursor NUMBER"
        ))),
        _ => Ok(cursors),
    }
}

/// Reads, verifies and stores.
fn stream(
    shared: &Following<'_>,
    options: &Options,
    run: &Run,
    cursors: HashMap<String, Positions>,
    client: &mut Client,
) -> Result<Summary, Failure> {
    let session = shared.session;
    let stop = &session.stop;
    let http = list_client(&session.options.fetch, 1)?;
    let heads = match options.until_now {
        true => heads(session, &http, &options.relays)?,
        false => HashMap::new(),
    };
    let bytes = (session.options.scale.memory / 16).clamp(FRAME_MEMORY.0, FRAME_MEMORY.1);
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let first = options.relays.first().cloned().unwrap_or_default();
    let begins_at = cursors.get(&first).and_then(|kept| Some(kept.front()?.seq));
    let begins = Summary {
        relay: first,
        cursor: begins_at.unwrap_or(0),
        ..Summary::default()
    };
    let storing = Storing::new(shared, run, client, begins)?;
    let reader = Arc::new(Reader {
        http,
        relays: options.relays.clone(),
        positions: Mutex::new(cursors),
        memory: Arc::new(Semaphore::new(bytes as usize)),
        bytes,
        stop: stop.clone(),
    });
    let (to, frames) = channel(MOST_FRAMES);
    let reading = session.runtime.spawn(Arc::clone(&reader).run(to));
    let (verified, batches) = crossbeam_channel::bounded(2);
    let verifier = Verifier::new(
        Keys::new(
            &session.runtime,
            session.options.directory.documents(DOCUMENT_ATTEMPTS)?,
            stop,
        ),
        session.options.scale.threads,
        session.options.fetch.opt_out.clone(),
        bytes as usize,
    );
    std::thread::scope(|scope| {
        // The way to the one that stores is closed with the thread.
        let verifying = scope.spawn(move || {
            shared.guarded("the thread that verifies", || {
                verify(shared, frames, verifier, &verified)
            })
        });
        let notifications = Notifications::parse(&run.notifications).unwrap_or_default();
        let deriving = scope.spawn(move || {
            shared.guarded("the thread that computes derived rows", || {
                deriving::derive(shared, &notifications)
            })
        });
        let stored = shared.guarded("the thread that stores", || {
            storing.run(&batches, &reader, &heads, || {
                shared.is_stored.store(true, Ordering::SeqCst);
                join(deriving)
            })
        });
        // Whoever waits to pass something on learns that nobody takes it.
        shared.is_done.store(true, Ordering::SeqCst);
        drop(batches);
        reading.abort();
        both(join(verifying), stored)
    })
}

/// What came of two threads. If one could not go on, and the other was stopped because of it, the
/// cause is what is told.
fn both<T>(first: Result<(), Failure>, second: Result<T, Failure>) -> Result<T, Failure> {
    match (first, second) {
        (Err(failure), Err(cause)) if failure.kind() == Kind::Stopped => Err(cause),
        (Err(failure), _) => Err(failure),
        (Ok(()), second) => second,
    }
}

/// The present positions of the relays that say theirs.
fn heads(
    session: &Session<'_>,
    http: &fetch::Client,
    relays: &[String],
) -> Result<HashMap<String, i64>, Failure> {
    let (mut heads, mut why) = (HashMap::new(), None);
    for relay in relays {
        let asked = relay::current_seq(http, relay, &session.stop);
        match session.runtime.block_on(asked) {
            Ok(head) => _ = heads.insert(relay.clone(), head),
            Err(error) => why = Some(Failure::new(format!("the relay {relay}: {error}"))),
        }
    }
    match why {
        Some(why) if heads.is_empty() => Err(why),
        _ => Ok(heads),
    }
}

/// Takes frames, and passes on verified batches.
fn verify(
    shared: &Following<'_>,
    mut frames: Receiver<Read>,
    mut verifier: Verifier,
    to: &crossbeam_channel::Sender<Batch>,
) -> Result<(), Failure> {
    let session = shared.session;
    let database = session.database;
    let mut client = database.patient(&session.stop);
    let (mut relay, mut last, mut passed) = (String::new(), None, None);
    while !shared.is_over() {
        let (read, next) = gather(shared, &mut frames);
        let is_idle = read.is_empty();
        if is_idle && next.is_none() && !verifier.is_waiting() && frames.is_closed() {
            break;
        }
        let schema = &database.schema;
        let batch = verifier.verify(read, &mut last, |keys, dids| {
            client.run(|client| keys.read(client, schema, dids))
        })?;
        if !batch.is_empty() || batch.cursor != passed {
            passed = batch.cursor;
            let batch = Batch {
                relay: relay.clone(),
                ..batch
            };
            if to.send(batch).is_err() {
                return Ok(());
            }
        }
        match next {
            Some(Read::From(from)) => {
                (relay, last, passed) = (from, None, None);
                verifier.begin_stream();
            }
            Some(Read::Lost(lost)) => {
                // What was read before is stored first.
                drop(shared.lost.set(lost));
                return Ok(());
            }
            Some(Read::Frame(..)) | None => {}
        }
    }
    Ok(())
}

/// The frames of a batch, and what came after them that is none.
fn gather(shared: &Following<'_>, frames: &mut Receiver<Read>) -> (Vec<Read>, Option<Read>) {
    let mut read = Vec::new();
    let mut until = Instant::now() + BATCH_TIME;
    loop {
        match frames.try_recv() {
            Ok(frame @ Read::Frame(..)) => {
                if read.is_empty() {
                    until = Instant::now() + BATCH_TIME;
                }
                read.push(frame);
                if read.len() >= BATCH_EVENTS {
                    break;
                }
            }
            Ok(other) => return (read, Some(other)),
            Err(tokio::sync::mpsc::error::TryRecvError::Disconnected) => break,
            Err(tokio::sync::mpsc::error::TryRecvError::Empty) => {
                if Instant::now() >= until || shared.is_over() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
    shared.received.store(frames.len() as u64, Ordering::SeqCst);
    (read, None)
}

/// Stores batches.
struct Storing<'s> {
    shared: &'s Following<'s>,
    client: &'s mut Client,
    appliers: Appliers,
    counters: [Counter; 5],
    progress: Progress,
    summary: Summary,
    /// What was counted since that was noted.
    counted: Counted,
    time: Option<String>,
    held: u64,
    /// Whether the time of the first event is noted.
    has_begun: bool,
    noted: Instant,
}

impl<'s> Storing<'s> {
    fn new(
        shared: &'s Following<'s>,
        run: &Run,
        client: &'s mut Client,
        summary: Summary,
    ) -> Result<Self, Failure> {
        let session = shared.session;
        let database = session.database;
        let options = ApplierOptions {
            url: database.url.clone(),
            schema: database.schema.clone(),
            choice: choice_of(run),
            indexed: indexed_columns(database)?,
        };
        let counters = [
            Counter::rated("events", "events"),
            Counter::rated("commits", "commits"),
            Counter::counted("repeated", "stored before"),
            Counter::counted("refused", "refused"),
            Counter::counted("fallbacks", "repos to fetch"),
        ];
        let shown = counters.iter().chain([&shared.proved, &shared.differing]);
        let shown = shown.cloned().collect();
        Ok(Self {
            shared,
            client,
            appliers: Appliers::new(&options, session.options.scale.connections),
            progress: Progress::begin("follow", shown, None),
            counters,
            summary,
            counted: Counted::default(),
            time: None,
            held: 0,
            has_begun: false,
            noted: Instant::now(),
        })
    }

    /// Stores until it is to end; `derived` waits for the derived rows of what was stored.
    fn run(
        mut self,
        batches: &crossbeam_channel::Receiver<Batch>,
        reader: &Reader,
        heads: &HashMap<String, i64>,
        derived: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Summary, Failure> {
        // Before the first event, so that others know who follows, and from where on.
        self.begin(&rows::datetime::print(clock::now(None)?))?;
        // Since when everything is stored up to the position that the relay had at first: what
        // comes after that is left alone.
        let mut reached: Option<Instant> = None;
        let mut hastened = 0;
        loop {
            if reached.is_some() {
                self.shared.sleep(TICK);
            } else {
                match batches.recv_timeout(TICK) {
                    Ok(batch) => {
                        self.wait_for_everything()?;
                        self.store(batch, reader)?;
                    }
                    Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                    Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
                }
            }
            if self.shared.session.stop.is_set() {
                break;
            }
            self.note(false)?;
            match reached {
                // What was said of a repo while it was being fetched lets it wait once more.
                Some(since)
                    if self.is_settled(since)
                        && hastened < HASTENED
                        && since.elapsed() < LAST_WAIT
                        && self.is_any_behind()? =>
                {
                    hastened += 1;
                    self.begin_to_settle()?;
                }
                Some(since) if self.is_settled(since) => break,
                None if (heads.get(&self.summary.relay))
                    .is_some_and(|head| self.summary.cursor >= *head) =>
                {
                    self.begin_to_settle()?;
                    reached = Some(Instant::now());
                }
                _ => {}
            }
        }
        derived()?;
        self.summary.is_stopped = self.shared.session.stop.is_set();
        self.note(true)?;
        let schema = &self.shared.session.database.schema;
        if let Ok(behind) = follow::count_behind(self.client, schema) {
            self.summary.behind = behind;
        }
        Ok(self.summary)
    }

    /// Waits while all derived rows are computed: beside events, that would never end.
    fn wait_for_everything(&mut self) -> Result<(), Failure> {
        while self.shared.is_computing.load(Ordering::SeqCst) && !self.shared.is_over() {
            self.shared.sleep(TICK);
            self.note(false)?;
        }
        Ok(())
    }

    /// Notes that it begins, at an event of this time.
    fn begin(&mut self, time: &str) -> Result<(), Failure> {
        let (database, relay) = (self.shared.session.database, self.summary.relay.clone());
        pg::persist(pg::Step::Short, UNTIL_HURRIED, || {
            reconnected(self.client, database, |client| {
                Ok(follow::begin(client, &database.schema, &relay, time)?)
            })
        })
        .map_err(|error| database.db_failure(&error))
    }

    /// The stream has come to where it was to come: repos that are behind are fetched now, even
    /// those that fell behind so often that they would wait.
    fn begin_to_settle(&mut self) -> Result<(), Failure> {
        let database = self.shared.session.database;
        pg::persist(pg::Step::Short, UNTIL_HURRIED, || {
            reconnected(self.client, database, |client| {
                Ok(follow::hasten(client, &database.schema)?)
            })
        })
        .map_err(|error| database.db_failure(&error))?;
        // A round that had begun before says nothing of what came after.
        self.shared.fetched.store(0, Ordering::SeqCst);
        self.shared.looked_up.store(0, Ordering::SeqCst);
        Ok(())
    }

    /// Whether any repo is behind.
    fn is_any_behind(&mut self) -> Result<bool, Failure> {
        let database = self.shared.session.database;
        pg::persist(pg::Step::Short, UNTIL_HURRIED, || {
            reconnected(self.client, database, |client| {
                Ok(follow::count_behind(client, &database.schema)? > 0)
            })
        })
        .map_err(|error| database.db_failure(&error))
    }

    /// Whether what had to be fetched and looked up is done, since the stream came to where it was
    /// to come.
    fn is_settled(&self, since: Instant) -> bool {
        let (fetched, looked_up) = (&self.shared.fetched, &self.shared.looked_up);
        let has_rounds = |rounds: &AtomicU64| rounds.load(Ordering::SeqCst) >= ROUNDS;
        let looks_up = self.shared.session.options.handles.is_some();
        has_rounds(fetched) && (has_rounds(looked_up) || !looks_up) || since.elapsed() > LAST_WAIT
    }

    /// Stores a batch, and the cursor after it.
    fn store(&mut self, mut batch: Batch, reader: &Reader) -> Result<(), Failure> {
        let session = self.shared.session;
        let database = session.database;
        let schema = &database.schema;
        let failed = |error: pg::DbError| {
            database
                .db_failure(&error)
                .hint_to_go_on("what is stored stays stored; fix this, then")
        };
        if batch.relay != self.summary.relay {
            self.counted.fallbacks += 1;
            self.summary.relay.clone_from(&batch.relay);
        }
        if !self.has_begun
            && let Some(time) = &batch.first_time
        {
            self.begin(&time.clone())?;
            self.has_begun = true;
        }
        let applied = match self.appliers.apply(&mut batch) {
            Err(error) if error.kind == pg::DbErrorKind::Stopped => return Ok(()),
            applied => applied.map_err(failed)?,
        };
        // Of a stream whose events have no times nobody knows how far it is.
        let lag = batch.time.as_deref().and_then(lag);
        let lag = lag.and_then(|lag| Duration::try_from_secs_f64(lag.max(0.0)).ok());
        let cursors = reader.other_cursors(&batch.relay, lag.unwrap_or(Duration::MAX / 2));
        pg::persist(pg::Step::Short, UNTIL_HURRIED, || {
            reconnected(self.client, database, |client| {
                applying::note(client, schema, &batch, &cursors)
            })
        })
        .map_err(failed)?;
        if let Some(cursor) = batch.cursor {
            self.summary.cursor = cursor;
        }
        self.held = batch.held;
        if batch.time.is_some() {
            self.time = batch.time.take();
        }
        let refused = batch.refused + applied.refused;
        let counts = [
            batch.events,
            applied.commits,
            applied.repeated,
            refused,
            applied.opened,
        ];
        for (counter, count) in self.counters.iter().zip(counts) {
            counter.add(count);
        }
        self.counted.events += batch.events;
        self.counted.commits += applied.commits;
        self.counted.repeated += applied.repeated;
        self.counted.refused += refused;
        self.counted.fetched += applied.opened;
        Ok(())
    }

    /// Notes how it goes.
    #[allow(clippy::cast_precision_loss)]
    fn note(&mut self, is_end: bool) -> Result<(), Failure> {
        if !is_end && self.noted.elapsed() < NOTE_EVERY {
            return Ok(());
        }
        let database = self.shared.session.database;
        let per_second = self.counted.events as f64 / self.noted.elapsed().as_secs_f64().max(0.001);
        let waiting = self.shared.received.load(Ordering::SeqCst) + self.held;
        let relay = self.summary.relay.clone();
        let (time, counted) = (self.time.clone(), self.counted);
        let noted = pg::persist(pg::Step::Short, UNTIL_HURRIED, || {
            reconnected(self.client, database, |client| {
                let how = (relay.as_str(), time.as_deref());
                let pace = (waiting, per_second);
                Ok(follow::note(
                    client,
                    &database.schema,
                    how,
                    counted,
                    pace,
                    is_end,
                )?)
            })
        });
        match noted {
            Err(error) if error.kind == pg::DbErrorKind::Stopped => return Ok(()),
            noted => noted.map_err(|error| database.db_failure(&error))?,
        }
        let total = &mut self.summary.counted;
        total.events += counted.events;
        total.commits += counted.commits;
        total.repeated += counted.repeated;
        total.refused += counted.refused;
        total.fetched += counted.fetched;
        total.fallbacks += counted.fallbacks;
        self.counted = Counted::default();
        self.noted = Instant::now();
        let lag = self.time.as_deref().and_then(lag);
        self.progress.doing(match lag {
            Some(lag) => format!(
                "{} behind {relay}, {} waiting",
                units::span(lag),
                units::counted(waiting, "event")
            ),
            None => format!("following {relay}"),
        });
        Ok(())
    }
}

/// Seconds since a time.
#[allow(clippy::cast_precision_loss)]
fn lag(time: &str) -> Option<f64> {
    let now = clock::now(None).ok()?;
    Some((now - rows::datetime::parse(time)?) as f64 / 1000.0)
}

/// Does a step on a connection, which is made anew if it was lost.
fn reconnected<T>(
    client: &mut Client,
    database: &process::Database,
    step: impl FnOnce(&mut Client) -> Result<T, pg::DbError>,
) -> Result<T, pg::DbError> {
    if client.is_closed() {
        let mut anew = pg::connect(&database.url)?;
        if !locks::try_acquire(&mut anew, Lock::Follow, Hold::Session)? {
            return Err(pg::DbError::lost("its lock is still held"));
        }
        *client = anew;
    }
    step(client)
}
