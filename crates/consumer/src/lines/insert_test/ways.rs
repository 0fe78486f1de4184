//! Five ways of inserting generated follow rows into `follow`.

use crate::lines::driver::Driver;
use appview::table::{self, TableInfo};
use load::copy::{self, HEADER, TRAILER};
use load::staging;
use pg::DbError;
use rows::Field;
use std::fmt::{self, Write};

/// Maximum number of bind parameters that one statement of PostgreSQL's protocol takes (a 16-bit
/// count).
pub(crate) const MAX_BIND_PARAMETERS: usize = 65_535;

/// The ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertTest {
    /// INSERT with literals.
    NoParams,
    /// INSERT with bind parameters.
    WithParams,
    /// One prepared INSERT with bind parameters.
    WithPrepared,
    /// COPY in text format.
    Copy,
    /// COPY in binary format.
    CopyBinary,
}

impl InsertTest {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::NoParams,
        Self::WithParams,
        Self::WithPrepared,
        Self::Copy,
        Self::CopyBinary,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoParams => "no-params",
            Self::WithParams => "with-params",
            Self::WithPrepared => "with-prepared",
            Self::Copy => "copy",
            Self::CopyBinary => "copy-binary",
        }
    }

    /// Checks that a batch of `rows` rows can be sent this way.
    ///
    /// # Errors
    /// It needs more bind parameters than PostgreSQL takes.
    pub fn check_batch(self, rows: usize) -> Result<(), BatchTooLarge> {
        let columns = table::FOLLOW.info().columns.len();
        let binds = matches!(self, Self::WithParams | Self::WithPrepared);
        if binds && rows.saturating_mul(columns) > MAX_BIND_PARAMETERS {
            return Err(BatchTooLarge { rows, columns });
        }
        Ok(())
    }
}

/// A batch that does not fit one statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTooLarge {
    rows: usize,
    columns: usize,
}

impl fmt::Display for BatchTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a batch of {} rows needs {} bind parameters, but PostgreSQL takes at most {MAX_BIND_PARAMETERS} a statement: \
             use --batch-size {} or less",
            self.rows,
            self.rows.saturating_mul(self.columns),
            MAX_BIND_PARAMETERS / self.columns
        )
    }
}

impl std::error::Error for BatchTooLarge {}

/// What begins every generated DID, so that generated rows can be told from real ones.
pub const TEST_DID_PREFIX: &str = "did:example:skyfill";

/// Makes follow rows that never repeat, neither in a run nor, by `seed`, between runs.
pub(crate) struct FollowRows {
    seed: u64,
    next: u64,
}

impl FollowRows {
    /// A new series.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: 0 }
    }

    fn row(&mut self) -> [String; 6] {
        let n = self.next;
        self.next += 1;
        // Spread over creators and subjects as a real table is, so that the indexes are hit all
        // over.
        let spread = (n ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let creator = format!("{TEST_DID_PREFIX}{:04x}", spread >> 48);
        let subject = format!("{TEST_DID_PREFIX}{:x}x{n:x}", self.seed);
        let created_at = format!(
            "2024-{:02}-{:02}T{:02}:00:00.000Z",
            n % 12 + 1,
            n % 28 + 1,
            n % 24
        );
        let uri = format!("at://{creator}/app.bsky.graph.follow/{:x}x{n:x}", self.seed);
        [
            uri,
            format!("bafyreitest{spread:016x}{n:016x}"),
            creator,
            subject,
            created_at.clone(),
            created_at,
        ]
    }

    fn rows(&mut self, count: usize) -> Vec<[String; 6]> {
        (0..count).map(|_| self.row()).collect()
    }
}

/// Inserts `count` rows in one statement.
///
/// # Errors
/// See [`DbError`].
pub(crate) fn insert(
    test: InsertTest,
    driver: &mut dyn Driver,
    rows: &mut FollowRows,
    count: usize,
) -> Result<(), DbError> {
    let follow = table::FOLLOW.info();
    let columns = follow.column_list();
    let rows = rows.rows(count);
    match test {
        InsertTest::NoParams => {
            let mut sql = format!("INSERT INTO follow ({columns}) VALUES ");
            for (at, row) in rows.iter().enumerate() {
                // The generated values hold no quotes.
                let _ = write!(
                    sql,
                    "{}('{}')",
                    if at > 0 { "," } else { "" },
                    row.join("','")
                );
            }
            driver.batch(&sql)
        }
        InsertTest::WithParams | InsertTest::WithPrepared => {
            let mut sql = format!("INSERT INTO follow ({columns}) VALUES ");
            for at in 0..count {
                let places: Vec<String> = (1..=row_width(&follow))
                    .map(|p| format!("${}", at * row_width(&follow) + p))
                    .collect();
                let _ = write!(
                    sql,
                    "{}({})",
                    if at > 0 { "," } else { "" },
                    places.join(",")
                );
            }
            let values: Vec<&str> = rows.iter().flatten().map(String::as_str).collect();
            driver.execute(&sql, &values, test == InsertTest::WithPrepared)
        }
        InsertTest::Copy => {
            // The generated values hold no tabs, line feeds or backslashes.
            let text: String = rows
                .iter()
                .map(|row| format!("{}\n", row.join("\t")))
                .collect();
            driver.copy_in(
                &format!("COPY follow ({columns}) FROM STDIN"),
                &[text.as_bytes()],
            )
        }
        InsertTest::CopyBinary => {
            let mut data = Vec::new();
            for row in &rows {
                let fields: Vec<Field<'_>> = row.iter().map(|value| Field::Text(value)).collect();
                copy::append_row(&mut data, &fields);
            }
            driver.copy_in(&staging::copy_into(&follow), &[HEADER, &data, TRAILER])
        }
    }
}

fn row_width(table: &TableInfo) -> usize {
    table.columns.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_too_large_for_bind_parameters_names_the_limit() {
        assert!(InsertTest::WithParams.check_batch(10_922).is_ok());
        let error = InsertTest::WithPrepared.check_batch(10_923).unwrap_err();
        assert!(
            error.to_string().contains("65535") && error.to_string().contains("10922"),
            "{error}"
        );
        assert!(InsertTest::NoParams.check_batch(1_000_000).is_ok());
    }
}
