//! Signals: the first SIGINT, SIGTERM or SIGHUP lets the work end well, a second SIGINT or SIGTERM ends at once, SIGUSR1 asks what
//! the workers do.
//!
//! Ending well takes five seconds at most, whatever a command is at. What is under way has three seconds to end by itself. Then the
//! statements that run in the database are canceled, and what waits for the network is let go of. If the command has not ended soon after
//! that, the process does. Nothing is lost by it: what is done is what the database says.

use crate::exit::{AT_ONCE, Failure, STOPPED};
use observe::Workers;
use pg::{Halt, Waits};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// For so long what is under way may end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// After so long the process ends.
const LAST: Duration = Duration::from_millis(4500);
/// Statements are canceled this often: work that ends may begin another one.
const CANCEL_EVERY: Duration = Duration::from_millis(250);
/// A thread that waits looks this often whether there is a hurry.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether the process is to end now.
static HURRIED: AtomicBool = AtomicBool::new(false);

/// How much of a hurry there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hurry {
    No,
    /// What is under way may end.
    Stop,
    /// Nothing is waited for any more.
    Now,
}

/// Whether to stop.
#[derive(Clone)]
pub(crate) struct Stop(Arc<watch::Sender<Hurry>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::channel(Hurry::No).0))
    }
}

impl Stop {
    /// Whether somebody asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow() >= Hurry::Stop
    }

    /// Asks to stop, for the process's own reasons.
    pub(crate) fn set(&self) {
        self.at_least(Hurry::Stop);
    }

    fn at_least(&self, hurry: Hurry) {
        self.0.send_if_modified(|now| {
            let is_more = hurry > *now;
            *now = hurry.max(*now);
            is_more
        });
    }

    /// Comes back when somebody asked to stop.
    pub(crate) async fn wait(&self) {
        self.wait_for(Hurry::Stop).await;
    }

    /// Comes back when nothing is waited for any more.
    pub(crate) async fn wait_until_urgent(&self) {
        self.wait_for(Hurry::Now).await;
    }

    async fn wait_for(&self, hurry: Hurry) {
        // The sender is this value's own: it is there as long as this waits.
        drop(self.0.subscribe().wait_for(|now| *now >= hurry).await);
    }
}

/// Whether the process is to end now: nothing is tried again, and an error may come from that.
pub(crate) fn is_hurried() -> bool {
    HURRIED.load(Ordering::SeqCst)
}

/// Sleeps, not longer than until the process is to end.
pub(crate) fn sleep(time: Duration) {
    let until = Instant::now() + time;
    while !is_hurried() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

impl Halt for Stop {
    fn is_set(&self) -> bool {
        Self::is_set(self)
    }
}

impl Stop {
    /// A wait that ends when somebody asks to stop, and says on stderr what it waits for.
    pub(crate) fn waits(&self) -> Waits<'_> {
        Waits {
            stop: self,
            ..PATIENT
        }
    }
}

/// A wait that says on stderr what it waits for; before there is a [`Stop`], a signal ends the process.
pub(crate) const PATIENT: Waits<'static> = Waits {
    stop: &|| false,
    say: &|line| observe::log!("{line}"),
};

static LISTENING: OnceLock<Stop> = OnceLock::new();

/// Does what the first signal does, at this very moment: for tests.
pub(crate) fn stop_this_process() {
    if let Some(stop) = LISTENING.get() {
        stop.set();
    }
}

/// Listens for signals from now on.
pub(crate) fn listen(workers: Workers) -> Result<Stop, Failure> {
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
    if !ignores_hangups() {
        wanted.push(SIGHUP);
    }
    let mut signals =
        Signals::new(wanted).map_err(|error| Failure::new(format!("listen for signals: {error}")))?;
    let stop = Stop::default();
    // Once a process.
    drop(LISTENING.set(stop.clone()));
    let shared = stop.clone();
    std::thread::spawn(move || {
        let mut is_asked = false;
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                observe::log!("{}", workers.report().trim_end());
            } else if is_asked {
                // A terminal that goes away may say so twice: its shell and the system both do.
                if signal == SIGHUP {
                    continue;
                }
                observe::log!("stopping at once; what was not committed is lost");
                std::process::exit(AT_ONCE);
            } else {
                is_asked = true;
                shared.set();
                let stop = shared.clone();
                std::thread::spawn(move || hurry(&stop));
                observe::log!("stopping after what is under way; a second signal stops at once");
            }
        }
    });
    Ok(stop)
}

/// Whether whoever started this process let it ignore hangups, as `nohup` does. Without `/proc` nobody can tell, and they count.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// Makes sure that the process ends.
fn hurry(stop: &Stop) {
    std::thread::sleep(GRACE);
    HURRIED.store(true, Ordering::SeqCst);
    stop.at_least(Hurry::Now);
    // A thread of its own: a server that is away may not answer.
    std::thread::spawn(|| {
        loop {
            pg::cancel_all();
            std::thread::sleep(CANCEL_EVERY);
        }
    });
    std::thread::sleep(LAST.saturating_sub(GRACE));
    // Nobody may read what is printed: that is not waited for, either.
    std::thread::spawn(|| observe::log!("stopped without waiting for the rest; what was committed stays"));
    std::thread::sleep(CANCEL_EVERY);
    std::process::exit(STOPPED.into());
}
