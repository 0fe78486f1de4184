//! Signals. The first SIGINT, SIGTERM or SIGHUP lets the work end well, a second SIGINT or SIGTERM
//! ends the process at once, and SIGUSR1 prints what the workers are doing.
//!
//! Ending well takes at most five seconds, whatever a command is doing. Work in progress has three
//! seconds to end on its own. Then the running statements in the database are canceled, and waits
//! for the network end. If the command has not ended soon after that, the process ends. Nothing is
//! lost: what counts is in the database.

use crate::failure::Failure;
use crate::stop::{self, Stop};
use observe::Workers;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use std::sync::OnceLock;
use std::time::Duration;

/// For so long what is under way may end by itself.
const GRACE: Duration = Duration::from_secs(3);
/// After so long the process ends.
const LAST: Duration = Duration::from_millis(4500);
/// Statements are canceled this often: work that ends may begin another one.
const CANCEL_EVERY: Duration = Duration::from_millis(250);
static LISTENING: OnceLock<Stop> = OnceLock::new();

/// Does what the first signal does, at this very moment: for tests.
pub fn stop_this_process() {
    if let Some(stop) = LISTENING.get() {
        stop.set();
    }
}

/// With which exit codes a process ends that signals end.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// It did not end by itself in time.
    pub stopped: i32,
    /// A second signal came.
    pub at_once: i32,
    /// The line that continues the command.
    pub to_continue: fn() -> String,
}

/// Listens for signals from now on. Whoever works looks at the flag that comes back.
pub fn listen(workers: Workers, codes: Codes) -> Result<Stop, Failure> {
    let mut wanted = vec![SIGINT, SIGTERM, SIGUSR1];
    if !ignores_hangups() {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted)
        .map_err(|error| Failure::new(format!("listen for signals: {error}")))?;
    let stop = Stop::default();
    // Once per process.
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
                observe::log!("stopping at once; uncommitted work is lost");
                observe::view::clear_now();
                std::process::exit(codes.at_once);
            } else {
                is_asked = true;
                shared.set();
                let stop = shared.clone();
                std::thread::spawn(move || end_in_time(&stop, codes));
                observe::log!("stopping after the present work; a second signal stops at once");
            }
        }
    });
    Ok(stop)
}

/// Whether whoever started this process let it ignore hangups, as `nohup` does. Without `/proc`
/// nobody can tell, and they count.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}

/// Makes sure that the process ends.
fn end_in_time(stop: &Stop, codes: Codes) {
    std::thread::sleep(GRACE);
    stop::hurry(stop);
    // A thread of its own: a server that is away may not answer.
    std::thread::spawn(|| {
        loop {
            pg::cancel_all();
            std::thread::sleep(CANCEL_EVERY);
        }
    });
    std::thread::sleep(LAST.saturating_sub(GRACE));
    // Nobody may read what is printed: that is not waited for, either.
    std::thread::spawn(move || {
        observe::log!(
            "stopped without waiting for the rest; what was committed stays; continue with: {}",
            (codes.to_continue)()
        );
    });
    std::thread::sleep(CANCEL_EVERY);
    observe::view::clear_now();
    std::process::exit(codes.stopped);
}
