//! Why a record is rejected, and so leaves no rows.

use std::fmt;

/// A rule that a record breaks, and the path of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Path of the field from the record; `$` is the record itself.
    pub path: String,
    /// The rule.
    pub rule: Rule,
}

/// The rules, named by what breaks them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A required field is missing.
    Missing,
    /// The field has another type than this one.
    NotA(&'static str),
    /// `$type` is not the collection.
    Type,
    /// A string with fewer bytes.
    TooShort(usize),
    /// A string with more bytes.
    TooLong(usize),
    /// A string with more grapheme clusters.
    TooManyGraphemes(usize),
    /// An array with more items.
    TooMany(usize),
    /// A number below this one.
    Under(u64),
    /// A number above this one.
    Over(u64),
    /// A MIME type that is not one of these.
    Mime(&'static [&'static str]),
    /// An integer that JavaScript cannot hold exactly.
    UnsafeInteger,
    /// U+0000 in a column of the database.
    Nul,
    /// A key that JavaScript objects cannot have.
    Proto,
    /// The official indexer's own rule about this collection.
    Official(&'static str),
}

/// Longest path, in bytes. Unknown keys can be as long as a record, and nested a hundred deep.
const MAX_PATH: usize = 200;

impl Reject {
    /// A rejection at `path`.
    pub fn new(path: impl Into<String>, rule: Rule) -> Self {
        Self {
            path: path.into(),
            rule,
        }
    }

    /// The same for the value around it, in which the rejected value is at `name`. The innermost
    /// part is cut if the path grows too long.
    pub(crate) fn below(mut self, name: &str) -> Self {
        self.path.insert_str(0, name);
        if self.path.len() > MAX_PATH {
            let end = (0..=MAX_PATH)
                .rev()
                .find(|end| self.path.is_char_boundary(*end));
            self.path.truncate(end.unwrap_or(0));
            self.path.push('…');
        }
        self
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.rule {
            Rule::Missing => write!(f, "{path} is missing"),
            Rule::NotA(what) => write!(f, "{path} is not {what}"),
            Rule::Type => write!(f, "{path} does not name the collection"),
            Rule::TooShort(least) => write!(f, "{path} has fewer than {least} bytes"),
            Rule::TooLong(most) => write!(f, "{path} has more than {most} bytes"),
            Rule::TooManyGraphemes(most) => write!(f, "{path} has more than {most} graphemes"),
            Rule::TooMany(most) => write!(f, "{path} has more than {most} items"),
            Rule::Under(least) => write!(f, "{path} is less than {least}"),
            Rule::Over(most) => write!(f, "{path} is more than {most}"),
            Rule::Mime(accepted) => write!(f, "{path} is none of {}", accepted.join(", ")),
            Rule::UnsafeInteger => write!(f, "{path} is an integer of 2^53 or more"),
            Rule::Nul => write!(f, "{path} holds U+0000, which PostgreSQL does not store"),
            Rule::Proto => write!(f, "{path} is called __proto__"),
            Rule::Official(rule) => write!(f, "{path}: {rule}"),
        }
    }
}

impl std::error::Error for Reject {}
