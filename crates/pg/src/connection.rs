//! Connections that are used again.
//!
//! Most steps of a command are a statement or two. A connection of its own costs such a step 10 to
//! 20 ms, most of it on the server, which starts a process and has it read the catalogs: a run with
//! little to do made forty of them. So whoever is done with a connection leaves it to the next one,
//! without anything that belonged to the first.

use crate::{DbError, connect::anew, connect::begin_session};
use postgres::Client;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// As many idle connections are kept; together with those in use they are never more than were in
/// use at one time.
const MOST: usize = 4;
/// One that was idle for so long is closed instead of used: the server, or something on the way,
/// may have forgotten it.
const IDLE: Duration = Duration::from_secs(60);
/// One that is so old is not kept: server processes grow with what they have seen.
const OLD: Duration = Duration::from_secs(600);

/// One that was idle for longer is asked whether the server is there, for at most so long.
const SURE: Duration = Duration::from_secs(1);
const ASKED: Duration = Duration::from_secs(5);

/// Takes away what belongs to whoever used the session: settings, locks, temporary tables. What
/// was prepared ends with its owner. Nobody in skyfill sets a role, listens, or has cursors that
/// outlive a transaction. It fails inside an open transaction: only there is the transaction older
/// than this request.
const LEAVE: &str =
    "SELECT 1 / (pg_catalog.transaction_timestamp() = pg_catalog.statement_timestamp())::integer;
    RESET ALL; SELECT pg_catalog.pg_advisory_unlock_all(); DISCARD TEMP";

/// An idle connection.
struct Idle {
    url: String,
    client: Client,
    made_at: Instant,
    since: Instant,
}

static IDLES: Mutex<Vec<Idle>> = Mutex::new(Vec::new());

/// Connects for oneself: the session ends when the client is dropped. A [`Connection`] is for
/// whoever needs it for a moment.
///
/// # Errors
/// See [`DbError`].
pub fn connect(url: &str) -> Result<Client, DbError> {
    take(url).map_or_else(|| anew(url), |(client, _)| Ok(client))
}

/// How many idle connections this process has: the server counts them, and whoever needs one takes
/// one of them.
#[must_use]
pub fn idle_connections() -> usize {
    idles().len()
}

fn idles() -> MutexGuard<'static, Vec<Idle>> {
    IDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection that is left to the next one when it is dropped. It must not be dropped inside a
/// transaction that was begun by a statement.
pub struct Connection {
    url: String,
    /// Always there until it is dropped.
    client: Option<Client>,
    made_at: Instant,
}

impl Connection {
    /// Takes an idle connection, or makes one.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn open(url: &str) -> Result<Self, DbError> {
        let (client, made_at) = match take(url) {
            Some(taken) => taken,
            None => (anew(url)?, Instant::now()),
        };
        Ok(Self {
            url: url.to_owned(),
            client: Some(client),
            made_at,
        })
    }

    /// Ends it, because it may not be fit for use: after an error, say.
    pub fn close(mut self) {
        drop(self.client.take());
    }
}

impl Deref for Connection {
    type Target = Client;

    #[allow(clippy::expect_used)]
    fn deref(&self) -> &Client {
        self.client.as_ref().expect("there until it is dropped")
    }
}

impl DerefMut for Connection {
    #[allow(clippy::expect_used)]
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect("there until it is dropped")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some(mut client) = self.client.take() else {
            return;
        };
        drop(forgotten());
        if std::thread::panicking()
            || client.is_closed()
            || self.made_at.elapsed() > OLD
            || idles().len() >= MOST
            || client.batch_execute(LEAVE).is_err()
        {
            return;
        }
        let mut idles = idles();
        if idles.len() < MOST {
            idles.push(Idle {
                url: std::mem::take(&mut self.url),
                client,
                made_at: self.made_at,
                since: Instant::now(),
            });
        }
    }
}

/// Takes out those that were idle for too long, whoever they were for.
fn forgotten() -> Vec<Idle> {
    let mut idles = idles();
    let (old, kept) = idles
        .drain(..)
        .partition(|idle| idle.since.elapsed() > IDLE);
    *idles = kept;
    old
}

/// An idle connection that works, and when it was made. Those that do not are closed.
fn take(url: &str) -> Option<(Client, Instant)> {
    loop {
        let Idle {
            mut client,
            made_at,
            since,
            ..
        } = {
            let mut idles = idles();
            let at = idles.iter().rposition(|idle| idle.url == url)?;
            idles.swap_remove(at)
        };
        if client.is_closed() || since.elapsed() > IDLE {
            continue;
        }
        if since.elapsed() > SURE && client.is_valid(ASKED).is_err() {
            // To close what does not answer would wait for the answer.
            std::mem::forget(client);
            continue;
        }
        if begin_session(&mut client).is_ok() {
            return Some((client, made_at));
        }
    }
}
