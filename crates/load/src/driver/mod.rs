//! Two ways to talk to PostgreSQL: the Rust driver, and libpq (feature `pg-native`). Everything else in this
//! crate goes through [`Driver`].

#[cfg(feature = "pg-native")]
mod native;
mod rust;

pub(crate) use rust::RustDriver;

use std::fmt;

/// One connection.
pub trait Driver: Send {
    /// Runs statements that return nothing of interest.
    ///
    /// # Errors
    /// See [`DbError`].
    fn batch(&mut self, sql: &str) -> Result<(), DbError>;

    /// Runs a statement that returns one number; it is prepared once and kept.
    ///
    /// # Errors
    /// See [`DbError`].
    fn number(&mut self, sql: &str) -> Result<u64, DbError>;

    /// Runs `COPY ... FROM STDIN` with `chunks` as its data.
    ///
    /// # Errors
    /// See [`DbError`].
    fn copy_in(&mut self, sql: &str, chunks: &[&[u8]]) -> Result<(), DbError>;

    /// Runs a statement with text parameters. If `keep`, it is prepared once and kept.
    ///
    /// # Errors
    /// See [`DbError`].
    fn execute(&mut self, sql: &str, parameters: &[&str], keep: bool) -> Result<(), DbError>;
}

/// Which driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// The Rust driver.
    Rust,
    /// libpq.
    Native,
}

impl DriverKind {
    /// Whether this build has it.
    #[must_use]
    pub fn is_built_in(self) -> bool {
        match self {
            Self::Rust => true,
            Self::Native => cfg!(feature = "pg-native"),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn connect(self, url: &str) -> Result<Box<dyn Driver>, DbError> {
        match self {
            Self::Rust => Ok(Box::new(rust::RustDriver::connect(url)?)),
            #[cfg(feature = "pg-native")]
            Self::Native => Ok(Box::new(native::NativeDriver::connect(url)?)),
            #[cfg(not(feature = "pg-native"))]
            Self::Native => Err(DbError {
                kind: DbErrorKind::Other,
                sqlstate: None,
                message: "this skyfill was built without libpq; build it with --features pg-native"
                    .to_owned(),
            }),
        }
    }
}

/// What went wrong, as far as deciding needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbErrorKind {
    /// The connection is gone, or the server does not take one now.
    Lost,
    /// The server refuses a value: too long for an index, not valid in its type, against a constraint.
    Data,
    /// The server cannot do it now: no disk space or memory, a deadlock, a timeout, read-only for the moment.
    Busy,
    /// Anything else: privileges, missing tables, syntax.
    Other,
}

/// An error of the server or the connection.
#[derive(Clone, Debug)]
pub struct DbError {
    /// What to think of it.
    pub kind: DbErrorKind,
    /// The server's code.
    pub sqlstate: Option<String>,
    /// For people.
    pub message: String,
}

impl DbError {
    /// An error of the server, judged by its SQLSTATE (manual, appendix "PostgreSQL Error Codes").
    pub(crate) fn of_server(sqlstate: &str, message: &str) -> Self {
        let kind = match (sqlstate.get(..2).unwrap_or_default(), sqlstate) {
            ("08", _) | (_, "57P01" | "57P02" | "57P03" | "57P05") => DbErrorKind::Lost,
            ("22" | "23" | "54", _) => DbErrorKind::Data,
            ("40" | "53" | "58", _) | (_, "55P03" | "57014" | "25006") => DbErrorKind::Busy,
            _ => DbErrorKind::Other,
        };
        Self {
            kind,
            sqlstate: Some(sqlstate.to_owned()),
            message: message.to_owned(),
        }
    }

    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self {
            kind: DbErrorKind::Lost,
            sqlstate: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(code) => write!(f, "PostgreSQL: {} ({code})", self.message),
            None => write!(f, "PostgreSQL: {}", self.message),
        }
    }
}

impl std::error::Error for DbError {}
