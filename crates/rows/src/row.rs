//! A row on its way to the code that stores it.

use crate::reject::{Reject, Rule};
use appview::table::{Table, TableInfo};

/// A value of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// NULL.
    Null,
    /// `varchar` or `text`.
    Text(&'a str),
    /// JSON for a `jsonb` column.
    Jsonb(&'a str),
}

impl<'a> From<Option<&'a str>> for Field<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

/// The receiver of rows.
pub struct Rows<'s> {
    sink: &'s mut dyn FnMut(TableInfo, &[Field<'_>]),
    /// Memory for the JSON of a record, reused for the next one.
    text: String,
}

impl<'s> Rows<'s> {
    /// Rows go to `sink`, one call each, with values in the order of the table's columns.
    pub fn new(sink: &'s mut dyn FnMut(TableInfo, &[Field<'_>])) -> Self {
        Self {
            sink,
            text: String::new(),
        }
    }

    /// The same with memory for texts, which [`Rows::into_text`] returns.
    pub fn with_text(sink: &'s mut dyn FnMut(TableInfo, &[Field<'_>]), mut text: String) -> Self {
        text.clear();
        Self { sink, text }
    }

    /// Returns the memory for texts.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    pub(crate) fn take_text(&mut self) -> String {
        std::mem::take(&mut self.text)
    }

    pub(crate) fn give_back(&mut self, text: String) {
        self.text = text;
    }

    /// Passes one row to the sink.
    pub(crate) fn push<const N: usize>(
        &mut self,
        table: &'static Table<N>,
        values: [Field<'_>; N],
    ) -> Result<(), Reject> {
        let info = table.info();
        for (value, column) in values.iter().zip(info.columns) {
            let Field::Text(text) = value else { continue };
            atrepo::work::add(text.len());
            // JSON has U+0000 as an escape; those who make it look at the text before.
            if memchr::memchr(0, text.as_bytes()).is_some() {
                return Err(Reject::new(
                    format!("{}.{}", info.name, column.name),
                    Rule::Nul,
                ));
            }
        }
        (self.sink)(info, &values);
        Ok(())
    }
}
