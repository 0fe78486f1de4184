//! Ending statements that run: a process that is stopped does not wait for a long one, or for
//! a lock.

use postgres::{CancelToken, Client, NoTls};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The sessions that were opened last, whether they are open still or not: asking for the end of
/// one that is closed does nothing.
static OPENED: Mutex<VecDeque<Opened>> = Mutex::new(VecDeque::new());

/// Whether this process cancels its own statements.
static CANCELS: AtomicBool = AtomicBool::new(false);

/// A session, and what its TLS connections are made with.
type Opened = (CancelToken, Option<MakeRustlsConnect>);

/// Far more than a process has at once.
const REMEMBERED: usize = 1024;

/// Remembers a session.
pub(crate) fn remember(client: &Client, tls: Option<&MakeRustlsConnect>) {
    let mut opened = opened();
    if opened.len() >= REMEMBERED {
        opened.pop_front();
    }
    opened.push_back((client.cancel_token(), tls.cloned()));
}

/// Whether [`cancel_all`] was called: a statement that is canceled was stopped, and has not failed.
pub(crate) fn cancels() -> bool {
    CANCELS.load(Ordering::SeqCst)
}

/// Asks the server to end the statements of all sessions of this process. They fail with
/// `query_canceled`, which is [`crate::DbErrorKind::Stopped`] from now on; the sessions stay.
pub fn cancel_all() {
    CANCELS.store(true, Ordering::SeqCst);
    // The newest first: they are the ones that are open.
    let tokens: Vec<Opened> = opened().iter().rev().cloned().collect();
    for (token, tls) in tokens {
        // A server that cannot be asked has no statement of ours that would hold us for long.
        drop(match tls {
            Some(tls) => token.cancel_query(tls),
            None => token.cancel_query(NoTls),
        });
    }
}

fn opened() -> MutexGuard<'static, VecDeque<Opened>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}
