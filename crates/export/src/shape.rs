//! The columns of exported files, from the table definitions of the AppView.

use appview::table::TableInfo;
use rows::{Collection, own_table};

/// The type of a column in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, or JSON as text.
    Text,
    /// Milliseconds since 1970, UTC.
    Time,
    /// A whole number.
    Number,
}

/// A column of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether rows may lack it.
    pub(crate) is_optional: bool,
    /// Whether nearly every row has another value, so that a dictionary would be of no use.
    pub(crate) is_unique: bool,
}

const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Text,
        is_optional: true,
        is_unique: false,
    }
}

const fn unique(name: &'static str, is_optional: bool) -> Column {
    Column {
        name,
        kind: Kind::Text,
        is_optional,
        is_unique: true,
    }
}

const fn time(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Time,
        is_optional: true,
        is_unique: true,
    }
}

const fn number(name: &'static str) -> Column {
    Column {
        name,
        kind: Kind::Number,
        is_optional: true,
        is_unique: true,
    }
}

/// Columns that every collection begins with,
const FIRST: [Column; 7] = [
    unique("uri", false),
    Column {
        is_optional: false,
        ..text("did")
    },
    unique("cid", false),
    text("rev"),
    time("createdAt"),
    time("indexedAt"),
    time("sortAt"),
];
/// and those that it ends with.
const LAST: [Column; 2] = [text("refused"), unique("record", true)];
/// What follows them in files of changes.
const OF_CHANGES: [Column; 3] = [text("operation"), number("batch"), number("sequence")];

/// The column of the table that is the time of the record's creation.
pub(crate) const CREATED_AT: &str = "createdAt";

/// Columns of a table that [`FIRST`] has in another form.
const IN_FIRST: &[&str] = &["uri", "cid", "creator", CREATED_AT, "indexedAt"];

/// The columns of the files of one collection.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// In their order.
    pub(crate) columns: Vec<Column>,
    /// The table whose columns are in the middle, if the AppView has one for the collection.
    pub(crate) table: Option<TableInfo>,
    /// Positions in the table of the columns in the middle.
    pub(crate) of_table: Vec<usize>,
}

impl Shape {
    /// The shape of a Parquet file of a collection, if it is one that the AppView knows.
    pub(crate) fn typed(collection: Option<Collection>) -> Self {
        let table = collection.and_then(own_table);
        let of_table: Vec<usize> = table.map_or_else(Vec::new, |table| {
            let columns = table.columns.iter().enumerate();
            columns
                .filter(|(_, column)| !IN_FIRST.contains(&column.name))
                .map(|(at, _)| at)
                .collect()
        });
        let middle = of_table
            .iter()
            .filter_map(|at| Some(text(table?.columns.get(*at)?.name)));
        Self {
            columns: FIRST.into_iter().chain(middle).chain(LAST).collect(),
            table,
            of_table,
        }
    }

    /// The shape of a Parquet file of changes of a collection. One that is gone has no CID.
    pub(crate) fn of_changes(collection: Option<Collection>) -> Self {
        let mut shape = Self::typed(collection);
        for column in &mut shape.columns {
            column.is_optional |= column.name == "cid";
        }
        shape.columns.extend(OF_CHANGES);
        shape
    }

    /// The shape of files of JSON lines: one column, the line.
    pub(crate) fn lines() -> Self {
        Self {
            columns: vec![unique("line", false)],
            table: None,
            of_table: Vec::new(),
        }
    }

    /// Whether it is the shape of files of JSON lines.
    pub(crate) fn is_line(&self) -> bool {
        self.columns.len() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_column_of_a_table_is_in_its_file_once() {
        for collection in Collection::ALL {
            let shape = Shape::typed(Some(*collection));
            let names: HashSet<&str> = shape.columns.iter().map(|column| column.name).collect();
            assert_eq!(names.len(), shape.columns.len(), "{collection:?}");
            let Some(table) = shape.table else { continue };
            for column in table.columns {
                let is_there = names.contains(column.name) || column.name == "creator";
                assert!(is_there, "{}.{}", table.name, column.name);
            }
        }
        assert_eq!(Shape::typed(None).columns.len(), FIRST.len() + LAST.len());
    }
}
