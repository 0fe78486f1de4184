//! A stream of NATS JetStream as the source of parts: which shards this consumer reads, and its
//! readers, one thread per shard.
//!
//! Consumers of one database share the shards: each holds an advisory lock per shard that it reads
//! ([`ledger::shards`]), takes free ones up to its part, and gives some back when another consumer
//! comes.

mod reader;
mod uploads;

use crate::counts::Counts;
use crate::frames::PartStore;
use crate::lines::rejects::Rejects;
use load::loading::Settle;
use nats::{Connection, NatsError, Settings, Stream};
use observe::Workers;
use pg::DbError;
use postgres::Client;
use process::{Failure, Stop, threads};
use reader::Context;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the shards are shared out.
const SHARE_EVERY: Duration = Duration::from_secs(1);
/// How often it is checked whether a consumer has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where parts come from.
#[derive(Clone)]
pub struct Options {
    /// The server, and the stream.
    pub settings: Settings,
    /// Whether the consumer ends when the stream is empty.
    pub until_empty: bool,
}

/// What reads a stream.
pub(crate) struct Streaming<'s> {
    pub(crate) options: &'s Options,
    /// Memory for messages, over all shards, in bytes.
    pub(crate) memory: usize,
    pub(crate) parts: &'s PartStore,
    pub(crate) counts: &'s Counts,
    pub(crate) rejects: &'s Arc<Rejects>,
    pub(crate) url: &'s str,
    pub(crate) workers: &'s Workers,
    pub(crate) stop: &'s Stop,
}

/// A shard that is read.
struct Reading {
    leave: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Streaming<'_> {
    /// Connects, waits until the stream is there, and reads until it is stopped, or the stream is
    /// empty.
    pub(crate) fn run(&self, target: &str) -> Result<(), Failure> {
        let connected =
            Connection::open(&self.options.settings, self.stop).and_then(|connection| {
                let stream = Stream::wait_for(&connection)?;
                Ok((Arc::new(connection), stream))
            });
        let (connection, stream) = match connected {
            Ok(connected) => connected,
            // Nothing was begun.
            Err(NatsError::Stopped) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (shown, described) = (connection.shown(), stream.described());
        observe::log!("reading {shown} ({described}), {target}");
        self.serve(&connection, stream)
    }

    /// Reads until it is stopped, or the stream is empty.
    fn serve(&self, connection: &Arc<Connection>, stream: Stream) -> Result<(), Failure> {
        let shards = stream.shards() as usize;
        let context = Context {
            connection: Arc::clone(connection),
            stream,
            memory: self.memory / shards.max(1),
            parts: self.parts.clone(),
            counts: self.counts.clone(),
            rejects: Arc::clone(self.rejects),
            refused: Arc::default(),
        };
        let mut claims = Claims::new(self.url, context.stream.name());
        let mut readings: BTreeMap<u32, Reading> = BTreeMap::new();
        while !self.stop.is_set() {
            if let Err(error) = self.share(&context, &mut claims, &mut readings) {
                tracing::warn!("shards cannot be shared out for now: {error}");
                claims.forget();
                // Another consumer may read them now.
                leave_all(&mut readings);
            }
            if self.is_done(&context) {
                break;
            }
            self.wait(&readings);
        }
        self.stop.set();
        leave_all(&mut readings);
        context.refusal()
    }

    /// Whether nothing is left to do, or the server refuses it.
    fn is_done(&self, context: &Context) -> bool {
        if !self.options.until_empty || context.has_refusal() {
            return context.has_refusal();
        }
        let is_empty = Stream::is_empty(&context.connection);
        if let Ok(true) = is_empty {
            observe::log!("{} is empty", context.connection.shown());
        }
        is_empty.unwrap_or_else(|error| {
            context.note(error);
            true
        })
    }

    fn wait(&self, readings: &BTreeMap<u32, Reading>) {
        let mut waited = Duration::ZERO;
        while waited < SHARE_EVERY && !self.stop.is_set() {
            if readings
                .values()
                .any(|reading| reading.thread.is_finished())
            {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
    }

    /// Takes shards that are free, and gives back those that are another consumer's part.
    fn share(
        &self,
        context: &Context,
        claims: &mut Claims,
        readings: &mut BTreeMap<u32, Reading>,
    ) -> Result<(), DbError> {
        let ended: Vec<u32> = readings
            .iter()
            .filter(|(_, reading)| reading.thread.is_finished())
            .map(|(shard, _)| *shard)
            .collect();
        for shard in ended {
            if let Some(reading) = readings.remove(&shard) {
                drop(reading.thread.join());
            }
            claims.release(shard)?;
        }
        let shards = context.stream.shards();
        let part = shards.div_ceil(claims.readers()?.max(1)) as usize;
        let stays = |reading: &&Reading| !reading.leave.load(Ordering::SeqCst);
        let mut staying = readings.values().filter(stays).count();
        for reading in readings.values().rev().filter(stays) {
            if staying <= part {
                break;
            }
            reading.leave.store(true, Ordering::SeqCst);
            staying -= 1;
        }
        for shard in 0..shards {
            if staying >= part {
                break;
            }
            if !readings.contains_key(&shard) && claims.try_take(shard)? {
                readings.insert(shard, self.start(context, shard));
                staying += 1;
            }
        }
        Ok(())
    }

    fn start(&self, context: &Context, shard: u32) -> Reading {
        let leave = Arc::<AtomicBool>::default();
        let (context, told) = (context.clone(), Arc::clone(&leave));
        let worker = self.workers.start("reading a shard");
        let thread = std::thread::spawn(move || {
            let broke_off = |why| context.parts.break_off(why);
            threads::guarded("a reading thread", broke_off, || {
                context.read(shard, &told, &worker);
            });
        });
        Reading { leave, thread }
    }
}

/// Ends all readers, and waits for them.
fn leave_all(readings: &mut BTreeMap<u32, Reading>) {
    for reading in readings.values() {
        reading.leave.store(true, Ordering::SeqCst);
    }
    while let Some((_, reading)) = readings.pop_first() {
        drop(reading.thread.join());
    }
}

/// The session that holds the locks of the shards.
struct Claims<'c> {
    url: &'c str,
    /// What the locks are of.
    name: String,
    client: Option<Client>,
}

impl<'c> Claims<'c> {
    fn new(url: &'c str, name: &str) -> Self {
        Self {
            url,
            name: name.to_owned(),
            client: None,
        }
    }

    fn client(&mut self) -> Result<&mut Client, DbError> {
        if self.client.is_none() {
            let mut client = pg::connect(self.url)?;
            ledger::shards::join(&mut client, &self.name)?;
            self.client = Some(client);
        }
        let none = || DbError::lost("the session is gone");
        self.client.as_mut().ok_or_else(none)
    }

    /// How many consumers there are.
    fn readers(&mut self) -> Result<u32, DbError> {
        let name = self.name.clone();
        Ok(ledger::shards::readers(self.client()?, &name)?)
    }

    fn try_take(&mut self, shard: u32) -> Result<bool, DbError> {
        let name = self.name.clone();
        Ok(ledger::shards::try_take(self.client()?, &name, shard)?)
    }

    fn release(&mut self, shard: u32) -> Result<(), DbError> {
        let name = self.name.clone();
        Ok(ledger::shards::release(self.client()?, &name, shard)?)
    }

    /// The session is of no use any more, and its locks are gone with it.
    fn forget(&mut self) {
        self.client = None;
    }
}
