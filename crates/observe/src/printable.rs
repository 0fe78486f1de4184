//! Text from outside, as it may be shown: on a terminal, in a log, in the ledger. What hosts,
//! documents, files and databases say may hold characters that move the cursor, change colors or
//! the direction of writing, or forge a line of their own.

use std::borrow::Cow;
use std::fmt::Write;

/// Longest text that is shown, in characters; of a longer one the beginning is.
const LONGEST: usize = 1000;

/// `text` in one line, without characters that do anything but stand there: those are written as
/// `\u{1b}`. Cut off after some hundred characters.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let Some((end, _)) = text.char_indices().nth(LONGEST) else {
        return shown(text);
    };
    let begin = text.get(..end).unwrap_or_default();
    Cow::Owned(format!("{}…", shown(begin)))
}

/// The same, however long it is.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            // Writing to a string does not fail.
            c if acts(c) => drop(write!(shown, "{}", c.escape_unicode())),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// JSON that no character of acts on a terminal. They stand in its texts alone, where `\\u` means
/// the same.
pub(crate) fn escape_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(acts) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if acts(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string does not fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character does something to a terminal or to its neighbors: controls, and what is not
/// seen or changes the direction of writing.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in [
            "",
            "status 400 InvalidRequest",
            "Grüße, 世界 🦋",
            "a\\b \"c\"",
        ] {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn nothing_that_is_shown_acts_on_a_terminal() {
        let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\r\nerror: forged\u{202e}gnirts\u{200b}\u{0}\u{7f}";
        let shown = printable(evil);
        assert!(!shown.chars().any(acts), "{shown}");
        assert!(shown.starts_with("\\u{1b}[2J") && shown.contains("\\nerror: forged"));
        let long = "ä".repeat(5000);
        assert_eq!(printable(&long).chars().count(), LONGEST + 1);
    }
}
