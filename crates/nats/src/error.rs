//! What can go wrong between skyfill and a NATS server, and whether waiting helps.

use process::Failure;
use std::fmt;

/// Why something did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsError {
    /// Options that no server could make right.
    Settings(String),
    /// The server refused it, and will again: what, and what to do about it.
    Refused(String, String),
    /// The server is not there, or not ready: waiting helps.
    Away(String),
    /// The stream takes no more for now: waiting helps.
    Full(String),
    /// A consumer dropped the upload that this message belongs to: the part starts over.
    Dropped,
    /// skyfill was stopped while it waited.
    Stopped,
}

impl NatsError {
    /// Whether the same again may work later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Full(_))
    }
}

impl fmt::Display for NatsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(what) | Self::Refused(what, _) | Self::Away(what) | Self::Full(what) => {
                f.write_str(what)
            }
            Self::Dropped => f.write_str("a consumer dropped an upload that did not go on"),
            Self::Stopped => f.write_str("skyfill was stopped"),
        }
    }
}

impl std::error::Error for NatsError {}

impl From<NatsError> for Failure {
    fn from(error: NatsError) -> Self {
        match error {
            NatsError::Settings(what) => Self::usage(what),
            NatsError::Refused(what, hint) => Self::new(what).hint(hint),
            NatsError::Stopped => Self::new(NatsError::Stopped).stopped(),
            other => Self::new(other),
        }
    }
}
