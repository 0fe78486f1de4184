//! The pace of a single server that many tasks send requests to, such as a directory.
//!
//! It is the scheduler's pace of one host ([`crate::schedule::pace`]): it learns from what the
//! server announces and from its 429s, and never exceeds the rate that the operator allows. Unlike
//! [`crate::turns`], it needs no task of its own, so it may outlive the runtime of a step, and all
//! steps of a command share it.

use crate::FetchError;
use crate::retry;
use crate::schedule::pace::Pace;
use crate::schedule::{self, Observed, RequestResult};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pace of a server. Clones share it.
#[derive(Clone)]
pub struct OneServer {
    shared: Arc<ServerPace>,
}

struct ServerPace {
    state: Mutex<State>,
    /// Notified when a request ended: it may have taught something.
    ended: Notify,
    started: Instant,
    /// Least time between two requests.
    gap: Duration,
}

struct State {
    pace: Pace,
    in_flight: u32,
    /// When the next request may be sent, by the operator's rate alone.
    next: Duration,
}

/// The right to make one request to the server. It counts as unused unless [`ServerTurn::end`] is
/// called.
pub struct ServerTurn {
    shared: Arc<ServerPace>,
    /// What the response shows apart from its body.
    pub seen: Observed,
    outcome: RequestResult,
}

impl OneServer {
    /// The pace of a server that may be sent `most` requests per second.
    #[must_use]
    pub fn new(most: f64) -> Self {
        let gap = Duration::try_from_secs_f64(1.0 / most).unwrap_or_default();
        Self {
            shared: Arc::new(ServerPace {
                state: Mutex::new(State {
                    pace: Pace::at_most(Duration::ZERO, most),
                    in_flight: 0,
                    next: Duration::ZERO,
                }),
                ended: Notify::new(),
                started: Instant::now(),
                gap,
            }),
        }
    }

    /// Requests per second that the operator allows.
    #[must_use]
    pub fn most(&self) -> f64 {
        1.0 / self.shared.gap.as_secs_f64().max(1e-9)
    }

    /// Waits until a request is allowed, however long the server asks for a pause.
    pub async fn turn(&self) -> ServerTurn {
        loop {
            let ended = self.shared.ended.notified();
            let Some(next) = self.shared.take() else {
                return ServerTurn {
                    shared: Arc::clone(&self.shared),
                    seen: Observed::default(),
                    outcome: RequestResult::Unused,
                };
            };
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(self.shared.started + at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = ended => {}
            }
        }
    }
}

impl ServerPace {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that is sent now. Else when to try again: nothing until another one ended.
    fn take(&self) -> Option<Option<Duration>> {
        let now = self.started.elapsed();
        let mut state = self.lock();
        let at = match state.pace.next_at(now) {
            None => return Some(None),
            Some(at) => at.max(state.next),
        };
        if at > now {
            return Some(Some(at));
        }
        state.pace.on_sent(now);
        state.in_flight += 1;
        state.next = now + self.gap;
        None
    }
}

impl ServerTurn {
    /// Reports how the request went.
    pub fn end<T>(mut self, result: &Result<T, FetchError>) {
        self.outcome = retry::outcome(result.as_ref().err());
    }
}

impl Drop for ServerTurn {
    fn drop(&mut self) {
        let now = self.shared.started.elapsed();
        let mut state = self.shared.lock();
        state.in_flight = state.in_flight.saturating_sub(1);
        let (outcome, others) = (self.outcome, state.in_flight);
        schedule::teach(&mut state.pace, now, outcome, (&self.seen, others));
        drop(state);
        self.shared.ended.notify_waiters();
    }
}

impl fmt::Debug for OneServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneServer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many requests from eight tasks, each with this result; how long they take.
    async fn ask(server: &OneServer, requests: u32, result: Result<(), FetchError>) -> f64 {
        let started = Instant::now();
        let result = Arc::new(result);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (server, result) = (server.clone(), Arc::clone(&result));
            tasks.spawn(async move {
                for _ in 0..requests / 8 {
                    let turn = server.turn().await;
                    turn.end(&result);
                }
            });
        }
        tasks.join_all().await;
        started.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn clones_share_one_pace_that_is_the_operators_from_the_first_request_on() {
        let server = OneServer::new(20.0);
        let both = tokio::join!(ask(&server, 80, Ok(())), async {
            ask(&server.clone(), 80, Ok(())).await
        });
        assert!((7.5..9.0).contains(&both.0.max(both.1)), "{both:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_without_a_word_is_a_lesson_and_one_with_a_time_is_waited_for() {
        let server = OneServer::new(20.0);
        ask(&server, 80, Ok(())).await;
        server
            .turn()
            .await
            .end::<()>(&Err(FetchError::RateLimited(None)));
        let took = ask(&server, 80, Ok(())).await;
        assert!(took > 8.0, "{took}");
        let pause = Duration::from_secs(3600);
        let asked = Err(FetchError::RateLimited(Some(pause)));
        server.turn().await.end::<()>(&asked);
        let took = ask(&server, 8, Ok(())).await;
        assert!(took >= 3600.0, "{took}");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_costs_the_others_nothing() {
        let server = OneServer::new(10.0);
        for _ in 0..50 {
            // It is counted, and given back.
            drop(server.turn().await);
        }
        let leaves = tokio::time::timeout(Duration::from_millis(1), server.turn());
        drop(leaves.await);
        assert!(ask(&server, 16, Ok(())).await < 3.0);
    }
}
