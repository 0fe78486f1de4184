//! How work ends: well, with failures, stopped; or with an error that names the thing and the next
//! step.

use std::fmt;

/// How a command ended that did its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All of it.
    Well,
    /// To the end, but some of its input was refused or failed; it reported what.
    WithFailures,
    /// It was told to stop before the end.
    Stopped,
}

/// What kind of thing was at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Arguments or environment variables.
    Usage,
    /// The environment: database, files or sockets.
    Environment,
    /// Nothing: the command was told to stop while it waited for something.
    Stopped,
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    kind: Kind,
}

impl Failure {
    /// An environment error: database, files or sockets.
    pub fn new(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            kind: Kind::Environment,
        }
    }

    /// An error in the arguments or the environment variables.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            hint: None,
            kind: Kind::Usage,
        }
    }

    /// The same, when the command was told to stop while it waited for something.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.kind = Kind::Stopped;
        self
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What was at fault.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What happened, to which thing.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do next.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
