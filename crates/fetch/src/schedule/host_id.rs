//! The number under which the scheduler knows a host.

/// The scheduler's number of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub(super) usize);

impl HostId {
    /// The number as an index, from 0.
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}
