//! Which of the open repos a load takes.

/// Which open repos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    All,
    /// Those of which nothing is stored. While nothing keeps a row from being there twice, the
    /// others have to wait.
    New,
}

impl Which {
    pub(crate) fn is_new(self) -> bool {
        self == Self::New
    }
}
