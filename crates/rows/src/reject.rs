//! Why a record leaves nothing.

use std::fmt;

/// A rule that a record breaks, with the path of the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Path of the field from the record, `$` for the record itself.
    pub path: String,
    /// The rule.
    pub rule: Rule,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// A required field is missing.
    Missing,
    /// The field has another type than this one.
    NotA(&'static str),
    /// `$type` is not the collection.
    Type,
    /// Not a date and time with a zone, as the lexicons want it.
    Datetime,
    /// An integer that JavaScript cannot hold exactly.
    UnsafeInteger,
    /// U+0000 in a column of the database.
    Nul,
    /// A key that JavaScript objects cannot have.
    Proto,
    /// The official indexer's own rule about this collection.
    Official(&'static str),
}

impl Reject {
    /// A reject at `path`.
    pub fn new(path: impl Into<String>, rule: Rule) -> Self {
        Self {
            path: path.into(),
            rule,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match self.rule {
            Rule::Missing => write!(f, "{path} is missing"),
            Rule::NotA(what) => write!(f, "{path} is not {what}"),
            Rule::Type => write!(f, "{path} does not name the collection"),
            Rule::Datetime => write!(f, "{path} is not a date and time with a zone"),
            Rule::UnsafeInteger => write!(f, "{path} is an integer of 2^53 or more"),
            Rule::Nul => write!(f, "{path} holds U+0000, which PostgreSQL does not store"),
            Rule::Proto => write!(f, "{path} is called __proto__"),
            Rule::Official(rule) => write!(f, "{path}: {rule}"),
        }
    }
}

impl std::error::Error for Reject {}
