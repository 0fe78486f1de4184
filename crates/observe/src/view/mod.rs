//! Who shows what the registry says: a live block on a terminal, plain lines elsewhere, events for
//! programs. A thread of its own reads the registry; whoever works is not kept.

mod json;
mod live;
mod plain;
mod rates;
mod shown;

use crate::limits::Judge;
use crate::registry::registry;
use crate::screen;
use rates::Rates;
use shown::Shown;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A live block on a terminal, else plain lines.
    #[default]
    Auto,
    /// A line every so often, on stderr.
    Plain,
    /// Events for programs, on stdout.
    Json,
    /// Nothing. A log file has lines all the same.
    None,
}

/// The target of lines of progress, which a log file has in any case.
#[doc(hidden)]
pub const LINES: &str = "observe::progress";
/// The live block is drawn this often.
const FRAME: Duration = Duration::from_secs(1);
/// Plain lines and events are looked after this often.
const LOOK: Duration = Duration::from_millis(100);

/// Whether lines of progress are for stderr, too.
static PLAIN: AtomicBool = AtomicBool::new(false);
static IS_HIDDEN: AtomicBool = AtomicBool::new(false);
/// Milliseconds between lines.
static INTERVAL: AtomicU64 = AtomicU64::new(10_000);
static VIEW: Mutex<View> = Mutex::new(View {
    form: None,
    thread: None,
});
static STOP: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

struct View {
    form: Option<Form>,
    thread: Option<JoinHandle<()>>,
}

/// Shows nothing, unless [`start`] is asked for a certain form.
pub fn hide() {
    IS_HIDDEN.store(true, Ordering::Relaxed);
}

/// Begins to show progress; lines and events come every `interval`. A second call changes nothing
/// but the interval.
pub fn start(form: Form, interval: Duration) {
    let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
    INTERVAL.store(millis.max(1), Ordering::Relaxed);
    let mut view = VIEW.lock().unwrap_or_else(PoisonError::into_inner);
    if view.form.is_some() {
        return;
    }
    let form = match form {
        Form::Auto if IS_HIDDEN.load(Ordering::Relaxed) => Form::None,
        form => form,
    };
    view.form = Some(form);
    let is_live = form == Form::Auto && can_redraw();
    PLAIN.store(
        form == Form::Plain || form == Form::Auto && !is_live,
        Ordering::Relaxed,
    );
    let name = "progress".to_owned();
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        Shower::new(is_live, form == Form::Json).run();
    });
    // Without it, nothing is shown.
    view.thread = thread.ok();
}

/// Shows nothing more, and takes away what stands on the terminal.
pub fn end() {
    let thread = {
        let mut view = VIEW.lock().unwrap_or_else(PoisonError::into_inner);
        view.thread.take()
    };
    let Some(thread) = thread else { return };
    *STOP.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    STOP.1.notify_all();
    // A thread that only prints; if it panicked, there is nothing to save.
    drop(thread.join());
    screen::draw(Vec::new());
}

/// Takes away what stands on the terminal: for whoever ends the process at once.
pub fn clear_now() {
    screen::clear_now();
}

/// Whether a line of this target is for stderr.
pub(crate) fn is_for_stderr(target: &str) -> bool {
    target != LINES || PLAIN.load(Ordering::Relaxed)
}

/// Whether stderr is a terminal on which a block can be drawn over itself.
fn can_redraw() -> bool {
    stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The thread that shows.
struct Shower {
    is_live: bool,
    is_json: bool,
    rates: Rates,
    judge: Judge,
    lines: plain::Lines,
    events: json::Events,
}

impl Shower {
    fn new(is_live: bool, is_json: bool) -> Self {
        Self {
            is_live,
            is_json,
            rates: Rates::default(),
            judge: Judge::default(),
            lines: plain::Lines::default(),
            events: json::Events::default(),
        }
    }

    fn run(mut self) {
        let every = if self.is_live { FRAME } else { LOOK };
        let style = live::Style::of_terminal();
        loop {
            let stop = STOP.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (stop, _) = STOP
                .1
                .wait_timeout_while(stop, every, |stop| !*stop)
                .unwrap_or_else(PoisonError::into_inner);
            let is_over = *stop;
            drop(stop);
            let now = Instant::now();
            let interval = Duration::from_millis(INTERVAL.load(Ordering::Relaxed));
            if self.is_json {
                let seen = self.see(now);
                self.events.print(now, interval, is_over, &seen);
                self.rates = seen.rates;
            }
            if is_over {
                return;
            }
            if self.is_live {
                let seen = self.see(now);
                screen::draw(live::block(&seen, &style.sized(screen::size())));
                self.rates = seen.rates;
            }
            self.print_lines(now, interval);
        }
    }

    fn see(&mut self, now: Instant) -> Shown {
        let snapshot = registry().snapshot();
        let (lanes, ends) = registry().lanes();
        let limit = self.judge.limit(now, &lanes, &ends);
        let mut rates = std::mem::take(&mut self.rates);
        rates.see(now, &snapshot);
        Shown {
            snapshot,
            rates,
            limit,
        }
    }

    /// Lines for the log file, and for stderr unless something better is shown there.
    fn print_lines(&mut self, now: Instant, interval: Duration) {
        let due = self.lines.due(now, interval, &registry().work());
        if due.is_empty() {
            return;
        }
        let (lanes, ends) = registry().lanes();
        let limit = match self.is_live || self.is_json {
            true => self.judge.last(),
            false => self.judge.limit(now, &lanes, &ends),
        };
        for line in self.lines.lines(now, &due, limit.as_ref()) {
            tracing::info!(target: LINES, "{line}");
        }
    }
}

#[cfg(test)]
mod tests;
