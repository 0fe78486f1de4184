//! Signals: the first SIGINT or SIGTERM lets the work end well, the second ends at once, SIGUSR1 asks what the workers do.

use crate::exit::{AT_ONCE, Failure};
use observe::Workers;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Whether to stop.
#[derive(Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether somebody asked to stop.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Asks to stop, for the process's own reasons.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Comes back when somebody asked to stop.
    pub(crate) async fn wait(&self) {
        while !self.is_set() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
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
