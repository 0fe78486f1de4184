//! Signals: the first SIGINT or SIGTERM lets the work end well, the second ends at once, SIGUSR1 asks what the workers do.

use crate::exit::{AT_ONCE, Failure};
use observe::Workers;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::sync::Arc;
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

/// Listens for signals from now on.
pub(crate) fn listen(workers: Workers) -> Result<Stop, Failure> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1])
        .map_err(|error| Failure::new(format!("listen for signals: {error}")))?;
    let stop = Stop::default();
    let shared = stop.clone();
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGUSR1 {
                eprint!("{}", workers.report());
            } else if shared.is_set() {
                eprintln!("stopping at once; what was not committed is lost");
                std::process::exit(AT_ONCE);
            } else {
                eprintln!("stopping after what is under way; a second signal stops at once");
                shared.set();
            }
        }
    });
    Ok(stop)
}
