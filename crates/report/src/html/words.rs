//! Values as words of a page, escaped.

use engine::status::iso;
use observe::{printable, units};

/// A value as text of HTML, in elements and in quoted attributes.
pub(crate) fn text(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in printable(value).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A section with its heading.
pub(crate) fn section(id: &str, title: &str, body: &str) -> String {
    format!(
        "<section id=\"{id}\" aria-labelledby=\"{id}-title\">\n<h2 id=\"{id}-title\">{}</h2>\n{body}</section>\n",
        text(title)
    )
}

/// `2026-11-28 22:51 UTC`.
pub(crate) fn moment(seconds: f64) -> String {
    let iso = iso(seconds);
    let (day, time) = iso.split_once('T').unwrap_or((&iso, ""));
    format!("{day} {} UTC", time.get(..5).unwrap_or_default())
}

/// A whole number from an estimate.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn whole(number: f64) -> u64 {
    number.round().max(0.0) as u64
}

/// `1.8 M`, `12 k`: a large number where there is little space.
pub(crate) fn short(number: f64) -> String {
    let (value, unit) = match number {
        n if n >= 1e9 => (n / 1e9, " G"),
        n if n >= 1e6 => (n / 1e6, " M"),
        n if n >= 1e4 => (n / 1e3, " k"),
        n => return units::rate(n),
    };
    match value < 10.0 {
        true => format!("{value:.1}{unit}"),
        false => format!("{value:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_comes_from_outside_is_markup() {
        let evil = "<script>alert('x')</script>\" onload=\"y&z\u{202e}\u{1b}[2J";
        let escaped = text(evil);
        assert!(!escaped.contains(['<', '>', '"', '\'', '\u{202e}', '\u{1b}']));
        assert!(escaped.contains("&lt;script&gt;") && escaped.contains("&amp;z"));
    }

    #[test]
    fn large_numbers_are_short() {
        let shown = [0.0, 42.0, 9_999.0, 12_345.0, 1_830_222.0, 20e9].map(short);
        assert_eq!(shown, ["0", "42", "9,999", "12 k", "1.8 M", "20 G"]);
    }
}
