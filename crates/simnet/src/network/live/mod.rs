//! A life of the network: commits of all kinds, changes of handles and keys, accounts that come and
//! go and move, told by the relay and by each PDS. The repos that the PDSes serve follow it.
//!
//! A life is made before it is played, so that playing costs next to nothing. It follows from the
//! network and the seed.

mod fault;
mod life;
mod settings;
mod step;
mod writer;

pub use fault::StreamFault;
pub use settings::{Burst, LiveSettings, Pace};

use super::log::Item;
use super::world::World;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use step::Step;

/// A life that was made and not yet played, or in part.
pub struct Live {
    world: Arc<World>,
    steps: VecDeque<Step>,
    counts: BTreeMap<&'static str, u64>,
    wall_clock: bool,
}

impl Live {
    pub(super) fn prepare(world: &Arc<World>, settings: &LiveSettings) -> Self {
        let _changing = world
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let made = life::make(world, settings);
        let mut state = world.lock();
        // Nothing of it is forgotten before it was told.
        let events: usize = made.steps.iter().map(Step::events).sum();
        let window = state.log.window().max(events + 1000);
        state.log.set_window(window);
        for host in &mut state.hosts {
            host.log.set_window(window);
        }
        drop(state);
        Self {
            world: Arc::clone(world),
            steps: made.steps.into(),
            counts: made.counts,
            wall_clock: settings.wall_clock,
        }
    }

    /// Events of the relay that are left to play.
    #[must_use]
    pub fn events_left(&self) -> usize {
        self.steps.iter().map(Step::events).sum()
    }

    /// The relay's last sequence number once all is played.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.world.lock().log.head() + self.events_left() as u64
    }

    /// What the whole life holds, by kind: kinds of events, operations, and words of faults.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The frames of the relay that are left to play, as they will be sent. What is no frame, as a
    /// number that is left out, is not among them.
    #[must_use]
    pub fn frames(&self) -> Vec<Vec<u8>> {
        let told = self.steps.iter().flat_map(|step| &step.told);
        let items = told.filter_map(|told| told.relay.as_ref());
        let numbered = (self.world.lock().log.head() + 1..).zip(items);
        let frame = |(seq, item): (u64, &Item)| match item {
            Item::Event(event, _) => Some(event.frame(seq, None)),
            Item::Raw(bytes) => Some(bytes.to_vec()),
            _ => None,
        };
        numbered.filter_map(frame).collect()
    }

    /// Plays at least so many events of the relay at once, or all that are left; returns the
    /// relay's last sequence number.
    pub fn play(&mut self, events: usize) -> u64 {
        self.advance(events);
        self.world.lock().log.head()
    }

    /// Plays at least so many events, if there are so many; returns how many.
    fn advance(&mut self, events: usize) -> usize {
        let _changing = self
            .world
            .changing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut played = 0;
        while played < events {
            let Some(step) = self.steps.pop_front() else {
                break;
            };
            played += step.events();
            let now = self.wall_clock.then(|| {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(0)
            });
            step.happen(&mut self.world.lock(), now);
        }
        played
    }

    /// Plays all that is left at once.
    pub fn play_all(&mut self) -> u64 {
        self.play(usize::MAX)
    }

    /// Plays the rest in the background.
    ///
    /// # Panics
    /// The system gives no thread.
    #[must_use]
    pub fn start(mut self, pace: Pace) -> Playing {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, last_seq) = (Arc::clone(&stop), self.last_seq());
        let thread = std::thread::Builder::new()
            .name("simnet-live".to_owned())
            .spawn(move || {
                let (begin, mut played) = (Instant::now(), 0);
                while !self.steps.is_empty() && !stopped.load(Ordering::SeqCst) {
                    let due = pace.due(begin.elapsed()).saturating_sub(played);
                    played += self.advance(due);
                    std::thread::sleep(Duration::from_millis(2));
                }
                self
            });
        Playing {
            stop,
            last_seq,
            thread: Some(thread.expect("a thread for the life of the network")),
        }
    }
}

/// A life that is being played. It stops with the value.
pub struct Playing {
    stop: Arc<AtomicBool>,
    last_seq: u64,
    thread: Option<JoinHandle<Live>>,
}

impl Playing {
    /// The relay's last sequence number once all is played.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Waits until all is played.
    ///
    /// # Panics
    /// The thread that plays it panicked.
    #[must_use]
    pub fn wait(mut self) -> Live {
        let thread = self
            .thread
            .take()
            .expect("a thread that was not waited for");
        thread.join().expect("the life of the network")
    }

    /// Stops it; returns what is left to play.
    ///
    /// # Panics
    /// The thread that plays it panicked.
    #[must_use]
    pub fn stop(self) -> Live {
        self.stop.store(true, Ordering::SeqCst);
        self.wait()
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
