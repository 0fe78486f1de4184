//! Errors of the database, and what to do about them: decided here and nowhere else, from their
//! kind, never from their text.

use std::fmt;

/// The server's code of a statement that somebody canceled, or that a time limit ended.
const QUERY_CANCELED: &str = "57014";

/// What went wrong, as far as deciding needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DbErrorKind {
    /// The connection is gone, or the server does not take one now.
    Lost,
    /// The server refuses a value: too long for an index, not valid in its type, against a
    /// constraint.
    Data,
    /// The server cannot do it now: no disk space or memory, a deadlock, a timeout, read-only for
    /// the moment.
    Busy,
    /// Whoever waited for it was stopped, or the process canceled the statement to end in time.
    Stopped,
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
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

impl DbError {
    /// An error of the server, judged by its SQLSTATE (manual, appendix "PostgreSQL Error Codes").
    pub fn of_server(sqlstate: &str, message: &str) -> Self {
        Self::judged(sqlstate, message, crate::cancel::cancels())
    }

    /// The same; `cancels` says whether this process cancels its own statements.
    fn judged(sqlstate: &str, message: &str, cancels: bool) -> Self {
        if cancels && sqlstate == QUERY_CANCELED {
            return Self {
                kind: DbErrorKind::Stopped,
                sqlstate: None,
                message: "the running statement was canceled, since skyfill stops".to_owned(),
                hint: None,
            };
        }
        let kind = match (sqlstate.get(..2).unwrap_or_default(), sqlstate) {
            ("08", _) | (_, "57P01" | "57P02" | "57P03" | "57P05") => DbErrorKind::Lost,
            ("22" | "23" | "54", _) => DbErrorKind::Data,
            ("40" | "53" | "58", _) | (_, "55P03" | QUERY_CANCELED | "25006") => DbErrorKind::Busy,
            _ => DbErrorKind::Other,
        };
        Self {
            kind,
            sqlstate: Some(sqlstate.to_owned()),
            message: message.to_owned(),
            hint: None,
        }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error that waiting does not mend.
    #[must_use]
    pub fn other(message: impl Into<String>) -> Self {
        Self {
            kind: DbErrorKind::Other,
            sqlstate: None,
            message: message.into(),
            hint: None,
        }
    }

    /// The connection is gone, or there was none.
    pub fn lost(message: impl Into<String>) -> Self {
        Self {
            kind: DbErrorKind::Lost,
            sqlstate: None,
            message: message.into(),
            hint: None,
        }
    }
}

impl DbError {
    /// Whether the server has no more disk space or memory: what all sessions share.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(self.sqlstate.as_deref(), Some("53100" | "53200"))
    }

    /// Whether a limit of this session alone was reached, such as `temp_file_limit`.
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.sqlstate.as_deref() == Some("53400")
    }

    /// Whether the server refuses a value as such, now and later: it is not valid in its type, or
    /// too large. A constraint may be violated by what somebody else stores at the same time.
    #[must_use]
    pub fn is_of_value(&self) -> bool {
        let code = self.sqlstate.as_deref().unwrap_or_default();
        matches!(code.get(..2), Some("22" | "54"))
    }

    /// Whoever waited for `what` was stopped.
    pub fn stopped(what: &str) -> Self {
        Self {
            kind: DbErrorKind::Stopped,
            sqlstate: None,
            message: format!("stopped while waiting for {what}"),
            hint: None,
        }
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sqlstate {
            Some(code) => write!(f, "PostgreSQL: {} ({code})", self.message),
            None if self.kind == DbErrorKind::Stopped => f.write_str(&self.message),
            None => write!(f, "PostgreSQL: {}", self.message),
        }
    }
}

impl std::error::Error for DbError {}

impl From<postgres::Error> for DbError {
    fn from(error: postgres::Error) -> Self {
        if let Some(db) = error.as_db_error() {
            let mut message = db.message().to_owned();
            if let Some(detail) = db.detail() {
                message = format!("{message}: {detail}");
            }
            return Self::of_server(db.code().code(), &message);
        }
        // What did not come from the server and is not a misuse of the driver is the connection.
        let source = std::error::Error::source(&error)
            .map(|s| format!(": {s}"))
            .unwrap_or_default();
        let message = error.to_string();
        let message = if message.contains(&source) {
            message
        } else {
            format!("{message}{source}")
        };
        let is_connection = error.is_closed() || has_io_source(&error);
        let kind = if is_connection {
            DbErrorKind::Lost
        } else {
            DbErrorKind::Other
        };
        Self {
            kind,
            sqlstate: None,
            message,
            hint: None,
        }
    }
}

/// Whether the connection broke. TLS tells of refused certificates as errors of I/O, too; waiting
/// does not mend those.
fn has_io_source(error: &postgres::Error) -> bool {
    if crate::tls_error::rustls_error(error).is_some() {
        return false;
    }
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<std::io::Error>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// What a writer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Connect again and write again what was not committed.
    Reconnect,
    /// Wait, then as [`Decision::Reconnect`]: the server needs a person or time.
    Wait,
    /// Halve the batch until the record that is refused stands alone, and leave it out.
    Split,
    /// Nothing that waiting mends: tell the user.
    Stop,
}

/// Decides.
#[must_use]
pub fn decide(error: &DbError) -> Decision {
    match error.kind {
        DbErrorKind::Lost => Decision::Reconnect,
        DbErrorKind::Busy => Decision::Wait,
        DbErrorKind::Data => Decision::Split,
        DbErrorKind::Stopped | DbErrorKind::Other => Decision::Stop,
    }
}

/// Whether waiting may mend it.
#[must_use]
pub fn is_transient(error: &DbError) -> bool {
    matches!(decide(error), Decision::Reconnect | Decision::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_of_codes_has_its_decision() {
        for (code, decision) in [
            ("57P01", Decision::Reconnect),
            ("08006", Decision::Reconnect),
            ("53100", Decision::Wait),
            ("40P01", Decision::Wait),
            ("25006", Decision::Wait),
            ("54000", Decision::Split),
            ("22021", Decision::Split),
            ("23502", Decision::Split),
            ("42501", Decision::Stop),
            ("42P01", Decision::Stop),
        ] {
            assert_eq!(decide(&DbError::of_server(code, "")), decision, "{code}");
        }
    }

    #[test]
    fn a_statement_that_the_process_cancels_to_end_in_time_was_stopped() {
        let server_says = "canceling statement due to user request";
        let by_others = DbError::judged(QUERY_CANCELED, server_says, false);
        assert_eq!(decide(&by_others), Decision::Wait);
        let to_end = DbError::judged(QUERY_CANCELED, server_says, true);
        assert_eq!(to_end.kind, DbErrorKind::Stopped);
        assert!(!to_end.to_string().contains("canceling"), "{to_end}");
        // What else goes wrong then is what it is.
        let full = DbError::judged("53100", "disk full", true);
        assert_eq!(full.kind, DbErrorKind::Busy);
    }

    #[test]
    fn a_value_is_refused_for_good_a_constraint_perhaps_not() {
        for (code, is_of_value) in [
            ("22021", true),
            ("22008", true),
            ("54000", true),
            ("23505", false),
            ("40P01", false),
            ("57P01", false),
        ] {
            let error = DbError::of_server(code, "");
            assert_eq!(error.is_of_value(), is_of_value, "{code}");
        }
        assert!(!DbError::lost("").is_of_value());
    }
}
