//! Turns: tasks wait here until the scheduler allows a request to their host, and report how it
//! went.

use crate::FetchError;
use crate::retry;
use crate::schedule::pace::Limit;
use crate::schedule::{HostId, Learned, Load, Next, Observed, RequestResult, Scheduler, Settings};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::debug;

/// Gives out turns. Clones share everything.
#[derive(Clone)]
pub struct Turns {
    shared: Arc<TurnQueue>,
}

struct TurnQueue {
    state: Mutex<State>,
    /// Notified when the scheduler has to run.
    changed: Arc<Notify>,
    started: Instant,
}

struct State {
    scheduler: Scheduler,
    /// The waiting tasks by host; tasks that are gone are noticed when it is their turn.
    waiting: Vec<VecDeque<Waiter>>,
}

/// A task that waits.
type Waiter = oneshot::Sender<Result<Turn, FetchError>>;

/// The right to make one request to a host. It counts as unused unless [`Turn::end`] is called.
pub struct Turn {
    shared: Arc<TurnQueue>,
    host: HostId,
    /// What the response shows apart from its body.
    pub seen: Observed,
    outcome: RequestResult,
}

impl Turns {
    /// Begins to give out turns, within a runtime. It ends with the last clone.
    #[must_use]
    pub fn start(settings: Settings) -> Self {
        let changed = Arc::new(Notify::new());
        let shared = Arc::new(TurnQueue {
            state: Mutex::new(State {
                scheduler: Scheduler::new(settings),
                waiting: Vec::new(),
            }),
            changed: Arc::clone(&changed),
            started: Instant::now(),
        });
        tokio::spawn(give_out(Arc::downgrade(&shared), changed));
        Self { shared }
    }

    /// Waits until a request to `host` is allowed.
    ///
    /// # Errors
    /// The host did not respond within its patience, or asked for too long a pause.
    pub async fn turn(&self, host: &str) -> Result<Turn, FetchError> {
        self.wait(host, VecDeque::push_back).await
    }

    /// The same, before all others that wait for the host: for a request that leads to many.
    ///
    /// # Errors
    /// See [`Self::turn`].
    pub async fn first_turn(&self, host: &str) -> Result<Turn, FetchError> {
        self.wait(host, VecDeque::push_front).await
    }

    async fn wait(
        &self,
        host: &str,
        queue: impl FnOnce(&mut VecDeque<Waiter>, Waiter),
    ) -> Result<Turn, FetchError> {
        let receiver = {
            let now = self.shared.now();
            let mut state = self.shared.lock();
            let id = state.host(host, now);
            if let Some(until) = state.scheduler.away_until(id, now) {
                return Err(FetchError::HostAway(until.saturating_sub(now)));
            }
            let (sender, receiver) = oneshot::channel();
            queue(&mut state.waiting[id.index()], sender);
            state.scheduler.wait(id, now);
            receiver
        };
        self.shared.changed.notify_one();
        receiver.await.unwrap_or(Err(FetchError::Stopped))
    }

    /// Sets the number of requests to `host` that are still to be made.
    pub fn expect(&self, host: &str, requests: u64) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let id = state.host(host, now);
        state.scheduler.expect(id, requests);
    }

    /// How many more tasks should wait for `host`, so that it is never short of them: as many as it
    /// gets in two seconds, less those that wait.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn room(&self, host: &str) -> usize {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let id = state.host(host, now);
        let wanted = (state.scheduler.rate(id) * 2.0).clamp(2.0, 64.0) as usize;
        wanted.saturating_sub(state.scheduler.waiting(id))
    }

    /// The time for which `host` still counts as down, if it does.
    #[must_use]
    pub fn away_for(&self, host: &str) -> Option<Duration> {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let id = state.host(host, now);
        Some(state.scheduler.away_until(id, now)?.saturating_sub(now))
    }

    /// Treats `host` as down for `time`: tasks that wait for it get an error.
    pub fn leave(&self, host: &str, time: Duration) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let id = state.host(host, now);
        debug!(host, seconds = time.as_secs_f64(), "the host is put off");
        state.scheduler.leave(id, now + time, now);
        state.send_away(id, now);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Restores what was learned of `host` before.
    pub fn learn(&self, host: &str, learned: &Learned) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let id = state.host(host, now);
        state.scheduler.learn(id, learned, now);
    }

    /// Leaves `host` alone for so long, as whoever asked it before would have.
    pub fn pause(&self, host: &str, pause: Duration) {
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let id = state.host(host, now);
        state.scheduler.pause(id, pause, now);
    }

    /// The hosts that are still to be left alone by their own word, each with the time.
    #[must_use]
    pub fn pauses(&self) -> Vec<(String, Duration)> {
        let now = self.shared.now();
        let state = self.shared.lock();
        let scheduler = &state.scheduler;
        let of = |id| {
            Some((
                scheduler.name(id).to_owned(),
                scheduler.pause_left(id, now)?,
            ))
        };
        scheduler.hosts().filter_map(of).collect()
    }

    /// What was learned of all hosts.
    #[must_use]
    pub fn learned(&self) -> Vec<(String, Learned)> {
        let state = self.shared.lock();
        let scheduler = &state.scheduler;
        let of = |id| (scheduler.name(id).to_owned(), scheduler.learned(id));
        scheduler.hosts().map(of).collect()
    }

    /// The hosts that need the longest, `count` of them: how long, and at which rate.
    #[must_use]
    pub fn slowest_hosts(&self, count: usize) -> Vec<(String, Duration, f64)> {
        let now = self.shared.now();
        let state = self.shared.lock();
        let slowest = state.scheduler.slowest_hosts(now, count).into_iter();
        let owned = |(name, left, rate): (&str, Duration, f64)| (name.to_owned(), left, rate);
        slowest.map(owned).collect()
    }

    /// How much is under way, and how much waits.
    #[must_use]
    pub fn load(&self) -> Load {
        self.shared.lock().scheduler.load()
    }

    /// The host that needs the longest, and the time it needs.
    #[must_use]
    pub fn slowest(&self) -> Option<(String, Duration)> {
        let now = self.shared.now();
        let state = self.shared.lock();
        let (name, left) = state.scheduler.slowest(now)?;
        Some((name.to_owned(), left))
    }
}

impl TurnQueue {
    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn host(&mut self, name: &str, now: Duration) -> HostId {
        let id = self.scheduler.host(name, now);
        if self.waiting.len() <= id.index() {
            self.waiting.resize_with(id.index() + 1, VecDeque::new);
        }
        id
    }
}

impl State {
    /// Ends the wait of all tasks for a host that is down.
    fn send_away(&mut self, host: HostId, now: Duration) {
        let left = self
            .scheduler
            .away_until(host, now)
            .map_or(Duration::ZERO, |until| until.saturating_sub(now));
        for waiter in std::mem::take(&mut self.waiting[host.index()]) {
            self.scheduler.give_up(host, now);
            // The task may be gone.
            drop(waiter.send(Err(FetchError::HostAway(left))));
        }
    }
}

impl State {
    /// Reports what a request taught of its host; `before` is what was known.
    fn report(&self, host: HostId, now: Duration, outcome: RequestResult, before: &Learned) {
        let scheduler = &self.scheduler;
        let (name, known) = (scheduler.name(host), scheduler.learned(host));
        if known.limit != before.limit
            && let Some(limit) = known.limit
        {
            let Limit { requests, seconds } = limit;
            debug!(host = name, requests, seconds, "the host announces a limit");
        }
        if known.ceiling != before.ceiling {
            let ceiling = known.ceiling;
            debug!(
                host = name,
                ceiling, "the host has a limit that it does not announce"
            );
        }
        let left = |until: Duration| until.saturating_sub(now).as_secs_f64();
        match outcome {
            RequestResult::Limited(wait) => {
                let seconds = wait.map(|wait| wait.as_secs_f64());
                debug!(host = name, seconds, "the host answers 429");
            }
            RequestResult::Busy(wait) => {
                debug!(
                    host = name,
                    seconds = wait.as_secs_f64(),
                    "the host asks for a pause"
                );
            }
            RequestResult::Failed => {
                let rest = scheduler.rest_until(host, now).map(left);
                debug!(host = name, rest, "the host does not answer");
            }
            RequestResult::Answered | RequestResult::Unused => {}
        }
        if let Some(until) = scheduler.away_until(host, now) {
            debug!(
                host = name,
                seconds = left(until),
                "the host counts as down"
            );
        }
    }
}

impl Turn {
    /// Reports how the request went.
    pub fn end<T>(mut self, result: &Result<T, FetchError>) {
        self.outcome = retry::outcome(result.as_ref().err());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // The announced limit is as of the arrival of the headers.
        if let (Some(announced), Some(at)) = (&mut self.seen.announced, self.seen.at) {
            let left = announced
                .reset_in
                .map(|reset| reset.saturating_sub(at.elapsed()));
            announced.reset_in = left.filter(|left| !left.is_zero());
        }
        let now = self.shared.now();
        let mut state = self.shared.lock();
        let before = state.scheduler.learned(self.host);
        let is_away = state
            .scheduler
            .ended(self.host, now, self.outcome, &self.seen);
        if is_away {
            state.send_away(self.host, now);
        }
        state.report(self.host, now, self.outcome, &before);
        drop(state);
        self.shared.changed.notify_one();
    }
}

/// Wakes tasks whose turn it is, until nobody is left who could wait.
async fn give_out(shared: Weak<TurnQueue>, changed: Arc<Notify>) {
    loop {
        let wake_at = {
            let Some(shared) = shared.upgrade() else {
                return;
            };
            let mut unused = Vec::new();
            let next = {
                let mut state = shared.lock();
                loop {
                    let now = shared.now();
                    match state.scheduler.next(now) {
                        Next::Ask(host) => {
                            let turn = Turn {
                                shared: Arc::clone(&shared),
                                host,
                                seen: Observed::default(),
                                outcome: RequestResult::Unused,
                            };
                            match state.waiting[host.index()].pop_front() {
                                Some(waiter) => {
                                    if let Err(Ok(turn)) = waiter.send(Ok(turn)) {
                                        unused.push(turn);
                                    }
                                }
                                None => unused.push(turn),
                            }
                            // A turn that nobody wants is returned without the lock.
                            if !unused.is_empty() {
                                break Some(now);
                            }
                        }
                        Next::At(at) => break Some(at),
                        Next::Nobody => break None,
                    }
                }
            };
            drop(unused);
            next.map(|at| shared.started + at)
        };
        match wake_at {
            Some(at) => {
                tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = changed.notified() => {}
                }
            }
            // From time to time, to notice that all clones are gone.
            None => drop(tokio::time::timeout(Duration::from_secs(5), changed.notified()).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_the_pace_of_the_host_and_those_who_left_cost_none() {
        let turns = Turns::start(Settings {
            host_rate: 10.0,
            ..Settings::default()
        });
        let started = Instant::now();
        let mut gone = Vec::new();
        for _ in 0..5 {
            let turns = turns.clone();
            gone.push(tokio::spawn(async move { drop(turns.turn("a").await) }));
        }
        tokio::task::yield_now().await;
        for task in gone {
            task.abort();
        }
        for _ in 0..100 {
            let turn = turns.turn("a").await.unwrap();
            turn.end(&Ok::<(), FetchError>(()));
        }
        let took = started.elapsed().as_secs_f64();
        // It begins at 2 per second and adds a half each second: 100 take some 16 seconds.
        assert!((12.0..22.0).contains(&took), "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_turn_comes_before_those_who_wait_already() {
        let turns = Turns::start(Settings {
            host_rate: 10.0,
            ..Settings::default()
        });
        turns
            .turn("a")
            .await
            .unwrap()
            .end(&Ok::<(), FetchError>(()));
        let (ended, mut order) = tokio::sync::mpsc::unbounded_channel();
        for name in ["repo", "repo", "page"] {
            let (turns, ended) = (turns.clone(), ended.clone());
            tokio::spawn(async move {
                let turn = match name {
                    "page" => turns.first_turn("a").await,
                    _ => turns.turn("a").await,
                };
                turn.unwrap().end(&Ok::<(), FetchError>(()));
                ended.send(name).unwrap();
            });
            tokio::task::yield_now().await;
        }
        assert_eq!(order.recv().await, Some("page"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_never_answers_is_away_after_a_while_for_all_who_wait() {
        let settings = Settings {
            patience: Duration::from_secs(30),
            ..Settings::default()
        };
        let turns = Turns::start(settings);
        let mut tasks = Vec::new();
        for _ in 0..20 {
            let turns = turns.clone();
            tasks.push(tokio::spawn(async move {
                loop {
                    match turns.turn("gone").await {
                        Ok(turn) => {
                            tokio::time::sleep(Duration::from_secs(2)).await;
                            turn.end(&Err::<(), _>(FetchError::Connect("refused".to_owned())));
                        }
                        Err(error) => break error,
                    }
                }
            }));
        }
        for task in tasks {
            assert!(matches!(task.await.unwrap(), FetchError::HostAway(_)));
        }
        assert!(turns.away_for("gone").is_some());
    }
}
