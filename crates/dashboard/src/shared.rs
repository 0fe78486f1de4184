//! What the threads of a dashboard share.

use crate::guard::Guard;
use crate::live::Live;
use crate::made::Made;
use crate::origin::Origin;
use crate::stored::Stored;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// All of it.
pub(crate) struct Served {
    pub(crate) origin: Origin,
    pub(crate) guard: Guard,
    pub(crate) live: Mutex<Live>,
    pub(crate) stored: Arc<Stored>,
    pub(crate) made: Made,
}

impl Served {
    pub(crate) fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
