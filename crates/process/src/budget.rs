//! A memory budget: a number of bytes that threads share.

use crate::stop::Stop;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A thread that waits for bytes looks this often whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A number of bytes that threads share.
pub struct Budget {
    total: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// Why no bytes were reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReserved {
    /// The whole budget is smaller.
    TooLarge {
        /// The bytes that were asked for.
        wanted: usize,
        /// The bytes of the whole budget.
        total: usize,
    },
    /// Somebody asked to stop before enough bytes were free.
    Stopped,
}

/// A part of a budget, until it is dropped.
pub struct Reservation<'b>(&'b Budget, usize);

impl Budget {
    /// A budget of `total` bytes.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self {
            total,
            free: Mutex::new(total),
            freed: Condvar::new(),
        }
    }

    /// The whole budget, in bytes.
    #[must_use]
    pub fn total(&self) -> usize {
        self.total
    }

    /// Waits until `bytes` are free, and reserves them.
    ///
    /// Whoever holds a reservation must not wait for another one of the same budget: two threads
    /// could wait for each other.
    ///
    /// # Errors
    /// See [`NotReserved`].
    pub fn reserve(&self, bytes: usize, stop: &Stop) -> Result<Reservation<'_>, NotReserved> {
        if bytes > self.total {
            return Err(NotReserved::TooLarge {
                wanted: bytes,
                total: self.total,
            });
        }
        let mut free = self.lock_free();
        while *free < bytes {
            if stop.is_set() {
                return Err(NotReserved::Stopped);
            }
            let waited = self.freed.wait_timeout(free, LOOK_EVERY);
            free = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        *free -= bytes;
        Ok(Reservation(self, bytes))
    }

    fn lock_free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        *self.0.lock_free() += self.1;
        self.0.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_more_than_all_is_refused_at_once() {
        let (budget, stop) = (Budget::new(10), Stop::default());
        let too_large = NotReserved::TooLarge {
            wanted: 11,
            total: 10,
        };
        assert_eq!(budget.reserve(11, &stop).err(), Some(too_large));
        let held = budget.reserve(8, &stop).unwrap();
        stop.set();
        assert_eq!(budget.reserve(3, &stop).err(), Some(NotReserved::Stopped));
        drop(held);
        assert!(budget.reserve(10, &stop).is_ok());
    }
}
