//! Enums that are text columns: `word` writes them, `FromSql` reads them, and nothing else does.
//!
//! An unknown word is an error that names it. A newer skyfill or a person wrote it, and guessing
//! its meaning could lose rows.

use std::error::Error;

/// The value of a word in a column of `table`.
pub(crate) fn known<T: Copy>(
    all: &[T],
    word: impl Fn(T) -> &'static str,
    (table, what): (&str, &str),
    text: &str,
) -> Result<T, Box<dyn Error + Sync + Send>> {
    let found = all.iter().copied().find(|known| word(*known) == text);
    found.ok_or_else(|| {
        format!(
            "{table} has the {what} {text:?}, which this version of skyfill does not know; use the version that wrote it"
        )
        .into()
    })
}

/// Makes an enum with `ALL` and `word` the type of a column: of which table, and what it is there.
macro_rules! column {
    ($type:ty, $table:literal, $what:literal) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        impl<'a> postgres::types::FromSql<'a> for $type {
            fn from_sql(
                _: &postgres::types::Type,
                raw: &'a [u8],
            ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                let text = std::str::from_utf8(raw)?;
                crate::column::known(&Self::ALL, Self::word, ($table, $what), text)
            }

            fn accepts(ty: &postgres::types::Type) -> bool {
                *ty == postgres::types::Type::TEXT
            }
        }
    };
}

pub(crate) use column;
