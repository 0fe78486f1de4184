//! The dashboard: a page about a run, `/metrics` for Prometheus, `/health` and `/ready`, and the
//! JSON that the page polls, served over HTTP from the process itself.
//!
//! | module | what |
//! |---|---|
//! | `listen` | where it listens, and what that needs: addresses, token, names |
//! | `serve` | connections: how many, how long, how large |
//! | `guard`, `keys` | who may ask: method, Host header, token, cookie, one-time link |
//! | `answer`, `page`, `made` | what each path answers, with the headers that browsers go by |
//! | `live` | what this process does, by the registry of `observe`, sampled once per second |
//! | `history` | samples over time, in a bounded number |
//! | `shared` | what the threads share |
//! | `stored` | what the ledger and the server say, asked by a thread of its own |
//! | `postgres_side` | statements about the server: WAL, checkpoints, sizes, waits |
//! | `metrics` | the text for Prometheus |
//!
//! A run must not notice it. It has threads of its own with low priority; nothing here is waited
//! for by whoever works; a thread that panics ends alone. Answers are made once and shared, so that
//! many viewers cost as much as one. Nothing goes over all repos, and what was read is read again
//! only after fifty times the time that reading it took: at most 2% of one session.
//!
//! The charts are the page's own: about 250 lines of SVG. No crate carries a charting library for
//! browsers that is small, and what is fetched from elsewhere is not committed here.

mod answer;
mod guard;
mod history;
mod keys;
mod listen;
mod live;
mod made;
mod metrics;
mod origin;
mod page;
mod postgres_side;
mod serve;
mod shared;
mod stored;

pub use keys::{BadToken, Token};
pub use listen::{Dashboard, ListenError, Options};
pub use origin::Origin;

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as JavaScript has them.
fn now_millis() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Lets the threads of the run go before this one. A system that refuses has its reasons.
fn give_way() {
    // Elsewhere than on Linux it would be the priority of the whole process.
    #[cfg(target_os = "linux")]
    let _refused = rustix::process::setpriority_process(None, 10);
}
