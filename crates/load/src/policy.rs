//! What to do about an error of the database: decided here and nowhere else, from its kind, never from its text.

use crate::{DbError, DbErrorKind};

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
        DbErrorKind::Other => Decision::Stop,
    }
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
}
