//! Tables of a page.

use std::fmt::Write;

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Text,
    Number,
}

/// A table: its columns, then cells that are HTML already. It scrolls sideways where it is wider
/// than the page.
pub(crate) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let class = |align: Align| match align {
        Align::Text => "",
        Align::Number => " class=\"number\"",
    };
    let mut head = String::new();
    for (name, align) in columns {
        // Writing to a string does not fail.
        _ = write!(head, "<th scope=\"col\"{}>{name}</th>", class(*align));
    }
    let mut body = String::new();
    for row in rows {
        body.push_str("<tr>");
        for (cell, (_, align)) in row.iter().zip(columns) {
            _ = write!(body, "<td{}>{cell}</td>", class(*align));
        }
        body.push_str("</tr>\n");
    }
    format!(
        "<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
    )
}

/// Names and values, both HTML already.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let mut body = String::new();
    for (name, value) in facts {
        _ = write!(body, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    }
    format!("<dl>{body}</dl>\n")
}
