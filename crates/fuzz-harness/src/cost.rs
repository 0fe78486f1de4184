//! What an input may cost: at most twenty times the work, and twenty times the allocated bytes,
//! that an honest input of its size takes. Honest inputs are the seeds that the practice network's
//! generator makes, so that the bound follows the code: it is measured once, before the first
//! input.

use crate::allocations;
use atrepo::work;

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

/// What `run` costs.
pub fn of(run: impl FnOnce()) -> Cost {
    if !cfg!(debug_assertions) {
        panic!("work is counted only in builds with debug assertions");
    }
    let (work, allocated) = (work::done(), allocations::done());
    run();
    Cost {
        work: work::done() - work,
        allocated: allocations::done() - allocated,
    }
}

/// What honest inputs cost per byte.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    work: f64,
    allocated: f64,
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
impl Rate {
    /// What `run` costs per byte over all of `inputs`.
    #[must_use]
    pub fn of(inputs: &[Vec<u8>], run: fn(&[u8])) -> Self {
        let cost = of(|| inputs.iter().for_each(|input| run(input)));
        let bytes = inputs.iter().map(Vec::len).sum::<usize>().max(1) as f64;
        Self {
            // Where honest inputs take nothing that is counted, others may take a tenth of a byte
            // per byte.
            work: (cost.work as f64 / bytes).max(0.1),
            allocated: (cost.allocated as f64 / bytes).max(0.1),
        }
    }

    /// How many times the work and the allocations of an honest input of `bytes` bytes `cost` is.
    #[must_use]
    pub fn times(self, bytes: usize, cost: Cost) -> (f64, f64) {
        let of_honest = |cost: u64, rate: f64| cost as f64 / (rate * bytes as f64);
        (
            of_honest(cost.work, self.work),
            of_honest(cost.allocated, self.allocated),
        )
    }
}
