//! Signals: the first SIGINT, SIGTERM or SIGHUP lets the work end well, a second SIGINT or SIGTERM ends at once, SIGUSR1 asks what
//! the workers do.

use crate::exit::{AT_ONCE, Failure};
use observe::Workers;
use pg::{Halt, Waits};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// Whether to stop.
#[derive(Clone)]
pub(crate) struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
}

impl Stop {
    /// Whether somebody asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Asks to stop, for the process's own reasons.
    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    /// Comes back when somebody asked to stop.
    pub(crate) async fn wait(&self) {
        // The sender is this value's own: it is there as long as this waits.
        drop(self.0.subscribe().wait_for(|is_set| *is_set).await);
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
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                observe::log!("{}", workers.report().trim_end());
            } else if shared.is_set() {
                // A terminal that goes away may say so twice: its shell and the system both do.
                if signal == SIGHUP {
                    continue;
                }
                observe::log!("stopping at once; what was not committed is lost");
                std::process::exit(AT_ONCE);
            } else {
                observe::log!("stopping after what is under way; a second signal stops at once");
                shared.set();
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
