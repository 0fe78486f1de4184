//! Where data comes from.

/// Where the page's data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the process that works, and from its ledger.
    Process,
    /// From the ledger alone: the process that works is another one, or has ended.
    Ledger,
}
