//! What an input may cost: at most twenty times the work, and twenty times the allocated bytes,
//! that an honest input of its size takes. Honest inputs are the seeds that the practice network's
//! generator makes, so that the bound follows the code: it is measured once, before the first
//! input.

use crate::allocations;
use atrepo::work;
use std::cell::Cell;

/// No input takes more than so many times what an honest one of its size takes.
pub const TIMES: f64 = 20.0;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes looked at, hashed and written ([`atrepo::work`]).
    pub work: u64,
    /// Bytes allocated, those included that were freed again.
    pub allocated: u64,
}

thread_local! {
    static UNMEASURED: Cell<Cost> = const { Cell::new(Cost { work: 0, allocated: 0 }) };
}

/// What this thread has done since it began, but for what [`unmeasured`] ran.
fn done() -> Cost {
    let spared = UNMEASURED.get();
    Cost {
        work: work::done() - spared.work,
        allocated: allocations::done() - spared.allocated,
    }
}

/// What `run` costs.
pub fn of(run: impl FnOnce()) -> Cost {
    if !cfg!(debug_assertions) {
        panic!("work is counted only in builds with debug assertions");
    }
    let before = done();
    run();
    done().without(before)
}

/// Runs what belongs to a check, not to what is checked: it costs nothing.
pub(crate) fn unmeasured<T>(run: impl FnOnce() -> T) -> T {
    let before = done();
    let result = run();
    let spent = done().without(before);
    let spared = UNMEASURED.get();
    UNMEASURED.set(Cost {
        work: spared.work + spent.work,
        allocated: spared.allocated + spent.allocated,
    });
    result
}

impl Cost {
    fn without(self, other: Self) -> Self {
        Self {
            work: self.work.saturating_sub(other.work),
            allocated: self.allocated.saturating_sub(other.allocated),
        }
    }
}

/// What honest inputs cost per byte, beside what an empty one costs.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    work: f64,
    allocated: f64,
    empty: Cost,
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
impl Rate {
    /// What `run` costs per byte over all of `inputs`.
    #[must_use]
    pub fn of(inputs: &[Vec<u8>], run: fn(&[u8])) -> Self {
        // What is made once is made now.
        run(&[]);
        let empty = of(|| run(&[]));
        let costs = inputs.iter().map(|input| of(|| run(input)).without(empty));
        let cost = costs.fold(Cost::default(), |sum, cost| Cost {
            work: sum.work + cost.work,
            allocated: sum.allocated + cost.allocated,
        });
        let bytes = inputs.iter().map(Vec::len).sum::<usize>().max(1) as f64;
        Self {
            // Where honest inputs take nothing that is counted, others may: twenty times so much
            // per byte.
            work: (cost.work as f64 / bytes).max(0.1),
            allocated: (cost.allocated as f64 / bytes).max(0.5),
            empty,
        }
    }

    /// How many times the work and the allocations of an honest input of `bytes` bytes `cost` is.
    #[must_use]
    pub fn times(self, bytes: usize, cost: Cost) -> (f64, f64) {
        let cost = cost.without(self.empty);
        let of_honest = |cost: u64, rate: f64| cost as f64 / (rate * bytes as f64);
        (
            of_honest(cost.work, self.work),
            of_honest(cost.allocated, self.allocated),
        )
    }
}
