//! What a life is made from, and how fast it is played.

use super::fault::StreamFault;
use std::time::Duration;

/// What a life is made from.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// The same seed gives the same life to the same network.
    pub seed: u64,
    /// Events of the relay, at least so many.
    pub events: usize,
    /// Faults of the relay's stream.
    pub faults: Vec<StreamFault>,
    /// One commit in so many has one of the faults.
    pub fault_every: u64,
    /// Commits among a thousand steps. The others are about accounts: they change names, keys and
    /// hosts, come and go.
    pub commits: u64,
    /// Whether events say the time at which they are played, and not that of the network.
    pub wall_clock: bool,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            seed: 1,
            events: 1000,
            faults: Vec::new(),
            fault_every: 20,
            commits: 930,
            wall_clock: false,
        }
    }
}

/// How fast a life is played.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Events per second.
    pub per_second: f64,
    /// Bursts, if there are any.
    pub burst: Option<Burst>,
}

/// Stretches of time in which a life is faster.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// From the beginning of one to that of the next.
    pub every: Duration,
    /// How long one lasts.
    pub length: Duration,
    /// Events per second in it.
    pub per_second: f64,
}

impl Pace {
    /// Events up to `elapsed`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of events"
    )]
    pub(super) fn due(&self, elapsed: Duration) -> usize {
        let seconds = elapsed.as_secs_f64();
        let fast = self.burst.map_or(0.0, |burst| {
            let every = burst.every.as_secs_f64().max(1e-3);
            let length = burst.length.as_secs_f64().min(every);
            let whole = (seconds / every).floor();
            whole * length + (seconds - whole * every).min(length)
        });
        let in_bursts = self.burst.map_or(0.0, |burst| burst.per_second) * fast;
        (self.per_second * (seconds - fast) + in_bursts) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_on_top_of_the_pace() {
        let pace = Pace {
            per_second: 100.0,
            burst: Some(Burst {
                every: Duration::from_secs(10),
                length: Duration::from_secs(2),
                per_second: 1000.0,
            }),
        };
        assert_eq!(pace.due(Duration::from_secs(1)), 1000);
        assert_eq!(pace.due(Duration::from_secs(2)), 2000);
        assert_eq!(pace.due(Duration::from_secs(10)), 2800);
        assert_eq!(pace.due(Duration::from_secs(11)), 3800);
        assert_eq!(
            Pace {
                burst: None,
                ..pace
            }
            .due(Duration::from_secs(3)),
            300
        );
    }
}
