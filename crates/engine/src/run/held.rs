//! Which leases a run holds, as far as it can know without asking the database.
//!
//! A lease holds until its time is over, counted from before it was asked for, by a clock of this
//! machine that nobody sets and that goes on while the machine sleeps. The database counts from
//! later on, so it never ends a lease that is valid here. A request to a host waits until its lease
//! is valid; one that is under way ends when the lease is lost.

use process::clock;
use std::collections::HashSet;
use std::time::Duration;
use tokio::sync::watch;

#[derive(Default)]
struct State {
    leases: HashSet<i64>,
    /// The end of all of them, unless they are renewed before.
    until: Duration,
}

/// The leases of a run.
#[derive(Default)]
pub(crate) struct Held(watch::Sender<State>);

/// When something was asked of the database, and how long what it grants lasts from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Term {
    asked: Duration,
    lasts: Duration,
}

impl Term {
    /// A term that begins now.
    pub(crate) fn begin(lasts: Duration) -> Self {
        let asked = clock::running();
        Self { asked, lasts }
    }
}

impl Held {
    /// These leases were granted or renewed, and there are no others.
    pub(crate) fn on_renewed(&self, term: Term, leases: HashSet<i64>) {
        self.0.send_replace(State {
            leases,
            until: term.asked + term.lasts,
        });
    }

    /// This lease was granted beside the others.
    pub(crate) fn on_leased(&self, term: Term, lease: i64) {
        self.0.send_modify(|state| {
            if state.leases.is_empty() {
                state.until = term.asked + term.lasts;
            }
            state.leases.insert(lease);
        });
    }

    /// These leases were given back.
    pub(crate) fn on_released(&self, leases: &[i64]) {
        self.0
            .send_modify(|state| state.leases.retain(|lease| !leases.contains(lease)));
    }

    /// Whether a request may be sent under a lease now.
    pub(crate) fn is_valid(&self, lease: i64) -> bool {
        self.0.borrow().is_valid(lease)
    }

    /// Waits until a request may be sent under a lease. False if the lease is lost.
    pub(crate) async fn wait(&self, lease: i64) -> bool {
        let settled = |state: &State| !state.leases.contains(&lease) || state.is_valid(lease);
        let mut states = self.0.subscribe();
        match states.wait_for(settled).await {
            Ok(state) => state.leases.contains(&lease),
            Err(_) => false,
        }
    }

    /// Comes back when a lease is lost.
    pub(crate) async fn lost(&self, lease: i64) {
        let mut states = self.0.subscribe();
        // The sender is this value's own: it is there as long as this waits.
        drop(
            states
                .wait_for(|state| !state.leases.contains(&lease))
                .await,
        );
    }
}

impl State {
    fn is_valid(&self, lease: i64) -> bool {
        self.leases.contains(&lease) && clock::running() < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_request_waits_for_the_renewal_of_its_lease_and_not_for_a_lost_one() {
        let held = Held::default();
        held.on_leased(Term::begin(LONG), 1);
        held.on_leased(Term::begin(LONG), 2);
        assert!(held.is_valid(1) && held.is_valid(2) && !held.is_valid(3));
        assert!(held.wait(1).await && !held.wait(3).await);
        held.on_released(&[2]);
        assert!(!held.is_valid(2));
        held.lost(2).await;
        // Its time is over, but nobody has taken it.
        held.on_renewed(Term::begin(Duration::ZERO), HashSet::from([1]));
        assert!(!held.is_valid(1));
        let (waited, ()) = tokio::join!(held.wait(1), async {
            tokio::task::yield_now().await;
            held.on_renewed(Term::begin(LONG), HashSet::from([1]));
        });
        assert!(waited);
        // Somebody has taken it.
        held.on_renewed(Term::begin(Duration::ZERO), HashSet::from([1]));
        let (waited, (), ()) = tokio::join!(held.wait(1), held.lost(1), async {
            held.on_renewed(Term::begin(LONG), HashSet::new());
        });
        assert!(!waited);
    }
}
