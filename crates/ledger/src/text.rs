//! Texts from outside, in a form that the database accepts.

use std::borrow::Cow;

/// Longest reason that is kept, in characters.
const MAX_REASON_CHARS: usize = 1000;

/// A reason for people that may quote what a host said: PostgreSQL refuses U+0000, and a terminal
/// obeys other control characters, so all of them are replaced.
#[must_use]
pub fn reason(text: &str) -> Cow<'_, str> {
    let end = text
        .char_indices()
        .nth(MAX_REASON_CHARS)
        .map_or(text.len(), |(at, _)| at);
    let text = text.get(..end).unwrap_or(text);
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.replace(char::is_control, "\u{fffd}").into()
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn a_reason_is_plain_and_short() {
        assert_eq!(reason("stalled: nothing came"), "stalled: nothing came");
        assert_eq!(reason("a\0b\x1b[2J"), "a\u{fffd}b\u{fffd}[2J");
        assert_eq!(reason(&"ä".repeat(5000)).len(), 2000);
    }
}
