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
    /// It was stopped before the end.
    Stopped,
}

impl Ended {
    /// Well if all is as it should be, else with failures.
    #[must_use]
    pub fn well_if(is_well: bool) -> Self {
        match is_well {
            true => Self::Well,
            false => Self::WithFailures,
        }
    }
}

/// What kind of thing was at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Arguments or environment variables.
    Usage,
    /// The environment: database, files or sockets.
    Environment,
    /// Nothing: the command was stopped while it waited for something.
    Stopped,
}

/// What to do next, where the caller knows the words of the last part: the line of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// This.
    Text(String),
    /// This, then the same command again, from where it was.
    GoOn(String),
    /// This, with a command on the same database.
    Run {
        /// What the command is for.
        text: String,
        /// Its name and options.
        command: String,
    },
}

/// Why a command could not do its work.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<NextStep>,
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

    /// The same, when the command was stopped while it waited for something.
    #[must_use]
    pub fn stopped(mut self) -> Self {
        self.kind = Kind::Stopped;
        self
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(NextStep::Text(hint.into()));
        self
    }

    /// The same, with what to do about it before the same command goes on.
    #[must_use]
    pub fn hint_to_go_on(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(NextStep::GoOn(hint.into()));
        self
    }

    /// The same, with what to do about it by another command on the same database.
    #[must_use]
    pub fn hint_to_run(mut self, hint: impl Into<String>, command: impl Into<String>) -> Self {
        self.hint = Some(NextStep::Run {
            text: hint.into(),
            command: command.into(),
        });
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
    pub fn next_step(&self) -> Option<&NextStep> {
        self.hint.as_ref()
    }
}
