//! Decides how long a pass waits. It waits for every host that lists as fast as an honest one. When
//! only slower hosts are left, they get some more time, and then the pass ends without them.

use discover::walk::allowed;
use fetch::hosts::domain_of;
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Time for each line in which a host keeps up: 200 lines per second, a twentieth of what PDSes
/// give at their pace.
const PER_LINE: Duration = Duration::from_millis(5);
/// So many hosts of a domain fail before the others of it are not waited for, unless one of them
/// answers.
const DEAD_HOSTS: u32 = 16;

/// All hosts of a pass that are being listed.
pub(super) struct Race {
    /// Those that keep up.
    keeping_up: AtomicUsize,
    domains: Mutex<HashMap<String, Arc<Domain>>>,
    over: watch::Sender<bool>,
    /// The time in which every host keeps up, and that stragglers get at the end.
    grace: Duration,
    started: Instant,
    /// Since when nobody keeps up.
    since: Mutex<Option<Instant>>,
}

/// The hosts of one domain.
struct Domain {
    failed: AtomicU32,
    /// Whether it seems dead: many of its hosts failed, and none answered.
    dead: watch::Sender<bool>,
}

impl Race {
    pub(super) fn new(grace: Duration) -> Arc<Self> {
        Arc::new(Self {
            keeping_up: AtomicUsize::new(0),
            domains: Mutex::default(),
            over: watch::Sender::new(false),
            grace,
            started: Instant::now(),
            since: Mutex::default(),
        })
    }

    /// A host begins.
    pub(super) fn runner(self: &Arc<Self>, host: &str) -> Runner {
        self.keeping_up.fetch_add(1, Ordering::Relaxed);
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        let domain = domains.entry(domain_of(host)).or_insert_with(|| {
            Arc::new(Domain {
                failed: AtomicU32::new(0),
                dead: watch::Sender::new(false),
            })
        });
        Runner {
            race: Arc::clone(self),
            domain: Arc::clone(domain),
            keeps_up: true,
            has_answered: false,
            took: Duration::ZERO,
            lines: 0,
        }
    }

    /// Ends the race when nobody has kept up for long enough: for the grace, or a tenth of the time
    /// that all others took.
    pub(super) fn end_if_over(&self) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if self.keeping_up.load(Ordering::Relaxed) > 0 {
            *since = None;
            return;
        }
        let since = *since.get_or_insert_with(Instant::now);
        let tenth = since.saturating_duration_since(self.started) / 10;
        if since.elapsed() > self.grace.max(tenth) {
            self.over.send_replace(true);
        }
    }

    /// Waits until the race is over.
    pub(super) async fn wait(&self) {
        // The sender lives as long as this does.
        drop(self.over.subscribe().wait_for(|over| *over).await);
    }
}

/// One host.
pub(super) struct Runner {
    race: Arc<Race>,
    domain: Arc<Domain>,
    keeps_up: bool,
    has_answered: bool,
    took: Duration,
    lines: u64,
}

impl Runner {
    /// The time that the host took so far. What it is not to blame for, as waiting for the
    /// database, does not count.
    pub(super) fn took(&self) -> Duration {
        self.took
    }

    /// Waits for what the host is asked for.
    pub(super) async fn wait_for<T>(&mut self, asked: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let left = allowed(self.race.grace, PER_LINE, self.lines).saturating_sub(self.took);
        let mut dead = self.domain.dead.subscribe();
        let got = {
            tokio::pin!(asked);
            let got = tokio::select! {
                biased;
                got = &mut asked => Some(got),
                () = tokio::time::sleep(left) => None,
                _ = dead.wait_for(|dead| *dead), if !self.has_answered => None,
            };
            match got {
                Some(got) => got,
                None => {
                    self.set_keeps_up(false);
                    asked.await
                }
            }
        };
        self.took += started.elapsed();
        got
    }

    /// A page of so many lines came.
    pub(super) fn on_page(&mut self, lines: u64) {
        if !std::mem::replace(&mut self.has_answered, true) {
            // One that answers speaks for its domain.
            self.domain.failed.store(0, Ordering::Relaxed);
            self.domain.dead.send_replace(false);
        }
        self.lines += lines;
        self.set_keeps_up(self.took <= allowed(self.race.grace, PER_LINE, self.lines));
    }

    /// Where failures of the host are counted, while it is waited for.
    pub(super) fn failures(&self) -> Failures {
        Failures {
            domain: Arc::clone(&self.domain),
            has_answered: self.has_answered,
        }
    }

    fn set_keeps_up(&mut self, keeps_up: bool) {
        if std::mem::replace(&mut self.keeps_up, keeps_up) != keeps_up {
            let keeping_up = &self.race.keeping_up;
            if keeps_up {
                keeping_up.fetch_add(1, Ordering::Relaxed);
            } else {
                keeping_up.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Where failures of a host are counted.
pub(super) struct Failures {
    domain: Arc<Domain>,
    has_answered: bool,
}

impl Failures {
    /// The host gave no answer.
    pub(super) fn add(&self) {
        let failed = self.domain.failed.fetch_add(1, Ordering::Relaxed) + 1;
        if !self.has_answered && failed >= DEAD_HOSTS {
            self.domain.dead.send_replace(true);
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.set_keeps_up(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_keep_up_are_waited_for_and_nobody_else() {
        let race = Race::new(Duration::ZERO);
        let mut quick = race.runner("pds.example.com");
        quick.on_page(1000);
        let mut slow = race.runner("slow.example.org");
        // It answers once nobody waits for it any more, however long that takes.
        let answer = std::future::poll_fn(|_| match race.keeping_up.load(Ordering::Relaxed) {
            1 => std::task::Poll::Ready(()),
            _ => std::task::Poll::Pending,
        });
        slow.wait_for(answer).await;
        race.end_if_over();
        assert!(!*race.over.borrow(), "one keeps up");
        drop(quick);
        while !*race.over.borrow() {
            race.end_if_over();
        }
        race.wait().await;
    }

    #[tokio::test]
    async fn the_names_of_a_dead_domain_are_not_waited_for_until_one_answers() {
        let race = Race::new(Duration::from_secs(3600));
        let mut all: Vec<Runner> = (0..100)
            .map(|n| race.runner(&format!("h{n}.evil.example")))
            .collect();
        let mut good = race.runner("pds.example.com");
        for runner in all.iter_mut().take(16) {
            runner.failures().add();
        }
        for runner in &mut all {
            runner.wait_for(tokio::task::yield_now()).await;
        }
        good.wait_for(tokio::task::yield_now()).await;
        assert_eq!(race.keeping_up.load(Ordering::Relaxed), 1);
        all[50].on_page(10);
        assert!(all[50].keeps_up && good.keeps_up && !*all[50].domain.dead.borrow());
    }
}
