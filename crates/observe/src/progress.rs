//! Progress on stderr: a bar on a terminal, else a line every so often.

use crate::screen;
use crate::waiting::Waiting;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Something that is counted.
#[derive(Clone)]
pub struct Counter {
    name: &'static str,
    value: Arc<AtomicU64>,
    /// Whether its rate is of interest, not only its value.
    rate: bool,
}

impl Counter {
    /// A counter whose rate is shown.
    #[must_use]
    pub fn with_rate(name: &'static str) -> Self {
        Self {
            name,
            value: Arc::default(),
            rate: true,
        }
    }

    /// A counter whose value alone is shown, once it is not zero.
    #[must_use]
    pub fn plain(name: &'static str) -> Self {
        Self {
            name,
            value: Arc::default(),
            rate: false,
        }
    }

    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// Shows counters until it is finished.
pub struct Progress {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
    bar: Option<ProgressBar>,
    quiet: Arc<AtomicBool>,
    floor: Arc<Mutex<Option<(String, Instant)>>>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Progress {
    /// Shows `counters` every `interval`: on a terminal as a bar, else as lines; with an estimate
    /// if `total`, what the first counter will be in the end, is known.
    #[must_use]
    pub fn start(counters: Vec<Counter>, total: Option<u64>, interval: Duration) -> Self {
        let bar = stderr().is_terminal().then(|| bar(total));
        screen::keep(bar.clone());
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let quiet = Arc::new(AtomicBool::new(false));
        let floor: Arc<Mutex<Option<(String, Instant)>>> = Arc::default();
        let waiting: Arc<Mutex<Waiting>> = Arc::default();
        let (stopped, shown, muted, slowest, waited_for) = (
            Arc::clone(&stop),
            bar.clone(),
            Arc::clone(&quiet),
            Arc::clone(&floor),
            Arc::clone(&waiting),
        );
        let waits = move || {
            waited_for
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .text()
        };
        let every = if bar.is_some() {
            Duration::from_millis(200)
        } else {
            interval
        };
        let thread = std::thread::spawn(move || {
            let mut before: Vec<u64> = vec![0; counters.len()];
            let started = Instant::now();
            let mut since = started;
            let (lock, woken) = &*stopped;
            let mut done = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while !*done {
                done = woken
                    .wait_timeout(done, every)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                if *done {
                    break;
                }
                let seconds = since.elapsed().as_secs_f64().max(0.001);
                if let Some(bar) = &shown {
                    bar.set_position(counters.first().map_or(0, Counter::get));
                    // Rates over a whole interval are steadier than the bar's own step.
                    if seconds >= interval.as_secs_f64().min(2.0) {
                        let line = line(&counters, &mut before, seconds);
                        bar.set_message(format!(
                            "{line}{}{}",
                            floor_text(&slowest, Duration::ZERO),
                            waits()
                        ));
                        since = Instant::now();
                    }
                } else if !muted.load(Ordering::Relaxed) {
                    let done = counters.first().map_or(0, Counter::get);
                    let (share, left) = total.map_or((String::new(), None), |total| {
                        estimate(done, total, started.elapsed())
                    });
                    let mut end = floor_text(&slowest, left.unwrap_or_default());
                    if let (true, Some(left)) = (end.is_empty(), left) {
                        end = format!(", about {:.0} s left", left.as_secs_f64());
                    }
                    crate::log!(
                        "{}{share}{end}{}",
                        line(&counters, &mut before, seconds),
                        waits()
                    );
                    since = Instant::now();
                }
            }
        });
        Self {
            stop,
            thread: Some(thread),
            bar,
            quiet,
            floor,
            waiting,
        }
    }

    /// Also shows what is waited for.
    pub fn shows(&self, waiting: &Waiting) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting.clone();
    }

    /// Says what alone takes how long from now on, whatever the rest does: the end is not earlier.
    pub fn needs_at_least(&self, slowest: Option<(String, Duration)>) {
        let end = slowest.and_then(|(name, left)| Some((name, Instant::now().checked_add(left)?)));
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// Prints lines to stderr without tearing the bar.
    pub fn say(&self, text: &str) {
        crate::log!("{text}");
    }

    /// Ends it; nothing more is shown.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.quiet.store(true, Ordering::Relaxed);
        *self.stop.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A thread that only prints; if it panicked, there is nothing to save.
            drop(thread.join());
        }
        screen::keep(None);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{wide_bar} {human_pos} of {human_len} {percent}%, {eta} left\n{msg}",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {human_pos} in {elapsed}\n{msg}",
        ),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// `; 40%`, and the time that is left, going by the time so far; nothing before something is done.
#[allow(clippy::cast_precision_loss)]
fn estimate(done: u64, total: u64, elapsed: Duration) -> (String, Option<Duration>) {
    if done == 0 || total == 0 {
        return (String::new(), None);
    }
    let share = (done as f64 / total as f64).min(1.0);
    let left = Duration::try_from_secs_f64(elapsed.as_secs_f64() * (1.0 - share) / share).ok();
    (format!("; {:.0}%", share * 100.0), left)
}

/// `, about 90 s left for NAME`, if that is later than in `otherwise`.
fn floor_text(floor: &Mutex<Option<(String, Instant)>>, otherwise: Duration) -> String {
    let floor = floor.lock().unwrap_or_else(PoisonError::into_inner);
    let Some((name, end)) = &*floor else {
        return String::new();
    };
    let left = end.saturating_duration_since(Instant::now());
    if left <= otherwise || left.as_secs() < 2 {
        return String::new();
    }
    format!(", about {:.0} s left for {name}", left.as_secs_f64())
}

/// `12000 repos (53/s), 1830222 records (8201/s), 3 failed`.
#[allow(clippy::cast_precision_loss)]
fn line(counters: &[Counter], before: &mut [u64], seconds: f64) -> String {
    let mut text = String::new();
    for (counter, before) in counters.iter().zip(before) {
        let now = counter.get();
        if !counter.rate && now == 0 {
            continue;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{now} {}", counter.name);
        if counter.rate {
            let _ = write!(
                text,
                " ({:.0}/s)",
                now.saturating_sub(*before) as f64 / seconds
            );
        }
        *before = now;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_goes_by_the_time_so_far() {
        let secs = Duration::from_secs;
        assert_eq!(estimate(0, 10, secs(5)), (String::new(), None));
        assert_eq!(
            estimate(2, 10, secs(30)),
            ("; 20%".to_owned(), Some(secs(120)))
        );
        assert_eq!(
            estimate(12, 10, secs(30)),
            ("; 100%".to_owned(), Some(secs(0)))
        );
        // What one host needs alone counts where it is longer.
        let floor = Mutex::new(Some(("pds.example".to_owned(), Instant::now() + secs(600))));
        assert!(floor_text(&floor, secs(120)).ends_with(" s left for pds.example"));
        assert_eq!(floor_text(&floor, secs(900)), "");
    }

    #[test]
    fn a_line_shows_rates_and_leaves_out_what_did_not_happen() {
        let (records, failed) = (Counter::with_rate("records"), Counter::plain("failed"));
        records.add(500);
        let mut before = vec![100, 0];
        assert_eq!(
            line(&[records.clone(), failed.clone()], &mut before, 2.0),
            "500 records (200/s)"
        );
        failed.add(1);
        assert_eq!(
            line(&[records, failed], &mut before, 2.0),
            "500 records (0/s), 1 failed"
        );
    }
}
