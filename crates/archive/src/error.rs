//! What is wrong with an archive, and what helps.

use std::fmt;

/// What is wrong with an archive.
#[derive(Clone, Debug)]
pub struct ArchiveError {
    at: String,
    why: String,
    hint: Option<&'static str>,
}

impl ArchiveError {
    pub(crate) fn new(at: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self {
            at: at.to_string(),
            why: why.to_string(),
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// What helps, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CAR archive, {}: {}", self.at, self.why)
    }
}

impl std::error::Error for ArchiveError {}
