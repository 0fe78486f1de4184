//! What each worker is doing, for whoever asks (SIGUSR1).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

type States = Mutex<BTreeMap<usize, (String, Instant)>>;

/// All workers of a process.
#[derive(Clone, Default)]
pub struct Workers {
    states: Arc<States>,
}

impl Workers {
    /// A new worker, with the lowest free number.
    #[must_use]
    pub fn start(&self, doing: &str) -> Worker {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let number = (0..).find(|n| !states.contains_key(n)).unwrap_or(0);
        states.insert(number, (doing.to_owned(), Instant::now()));
        Worker {
            states: Arc::clone(&self.states),
            number,
        }
    }

    /// A line for each worker: its number, what it does, for how long.
    #[must_use]
    pub fn report(&self) -> String {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        if states.is_empty() {
            return "no worker is busy\n".to_owned();
        }
        let line = |(number, (doing, since)): (&usize, &(String, Instant))| {
            format!(
                "worker {number}: {doing}, for {:.1} s\n",
                since.elapsed().as_secs_f64()
            )
        };
        states.iter().map(line).collect()
    }
}

/// A worker; it ends with the value.
pub struct Worker {
    states: Arc<States>,
    number: usize,
}

impl Worker {
    /// Says what it does now.
    pub fn doing(&self, doing: impl Into<String>) {
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        states.insert(self.number, (doing.into(), Instant::now()));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_come_and_go() {
        let workers = Workers::default();
        let first = workers.start("idle");
        let second = workers.start("idle");
        second.doing("fetch did:plc:a");
        drop(first);
        assert!(
            workers
                .report()
                .starts_with("worker 1: fetch did:plc:a, for 0."),
            "{}",
            workers.report()
        );
        assert!(workers.start("idle").number == 0);
    }
}
