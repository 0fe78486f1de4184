//! Rows on their way to a file, column by column, in memory or as a compressed piece in the spool.

use crate::shape::{Kind, Shape};
use bytes::Bytes;
use std::io;

/// Length that stands for a missing text. No text is so long: a record has at most a MiB, and its
/// JSON at most six times as much.
pub(crate) const NO_TEXT: u32 = u32::MAX;
/// Number or time that stands for a missing one.
pub(crate) const NO_NUMBER: i64 = i64::MIN;
/// Fast: what is in the spool is read once.
const LEVEL: i32 = 1;

/// A value of a row.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'v> {
    /// None.
    Null,
    /// A text.
    Text(&'v str),
    /// Milliseconds since 1970.
    Time(i64),
    /// A whole number.
    Number(i64),
}

impl<'v> From<Option<&'v str>> for Value<'v> {
    fn from(text: Option<&'v str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

impl From<Option<i64>> for Value<'_> {
    fn from(time: Option<i64>) -> Self {
        time.map_or(Self::Null, Self::Time)
    }
}

/// The values of one column.
#[derive(Debug)]
enum Growing {
    Text { bytes: Vec<u8>, lengths: Vec<u32> },
    Numbers(Vec<i64>),
}

/// Rows that grow.
#[derive(Debug)]
pub(crate) struct Batch {
    columns: Vec<Growing>,
    rows: usize,
    bytes: usize,
}

impl Batch {
    pub(crate) fn new(shape: &Shape) -> Self {
        let columns = shape.columns.iter().map(|column| match column.kind {
            Kind::Text => Growing::Text {
                bytes: Vec::new(),
                lengths: Vec::new(),
            },
            Kind::Time | Kind::Number => Growing::Numbers(Vec::new()),
        });
        Self {
            columns: columns.collect(),
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds a row; its size in bytes. A value of another kind than its column counts as missing.
    pub(crate) fn push<'v>(&mut self, values: impl Iterator<Item = Value<'v>>) -> usize {
        let mut size = 0;
        for (column, value) in self.columns.iter_mut().zip(values) {
            match (column, value) {
                (Growing::Text { bytes, lengths }, Value::Text(text)) => {
                    bytes.extend_from_slice(text.as_bytes());
                    lengths.push(u32::try_from(text.len()).unwrap_or(NO_TEXT));
                    size += text.len() + 4;
                }
                (Growing::Text { lengths, .. }, _) => {
                    lengths.push(NO_TEXT);
                    size += 4;
                }
                (Growing::Numbers(numbers), value) => {
                    numbers.push(match value {
                        Value::Time(number) | Value::Number(number) => number,
                        _ => NO_NUMBER,
                    });
                    size += 8;
                }
            }
        }
        self.rows += 1;
        self.bytes += size;
        size
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Size of its values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rows as one compressed piece.
    pub(crate) fn compress(&self) -> io::Result<Piece> {
        let mut plain = Vec::with_capacity(self.bytes);
        let mut texts = Vec::new();
        for column in &self.columns {
            match column {
                Growing::Text { bytes, lengths } => {
                    plain.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
                    plain.extend_from_slice(bytes);
                    texts.push(bytes.len());
                }
                Growing::Numbers(numbers) => {
                    plain.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
                }
            }
        }
        Ok(Piece {
            compressed: zstd::bulk::compress(&plain, LEVEL)?,
            form: Form {
                rows: self.rows,
                plain: plain.len(),
                texts,
            },
        })
    }

    /// The rows, to be read.
    pub(crate) fn done(self) -> Done {
        let columns = self.columns.into_iter().map(|column| match column {
            Growing::Text { bytes, lengths } => Values::Text(bytes.into(), lengths),
            Growing::Numbers(numbers) => Values::Numbers(numbers),
        });
        Done {
            columns: columns.collect(),
            rows: self.rows,
            bytes: self.bytes,
        }
    }
}

/// What a piece holds.
#[derive(Clone, Debug)]
pub(crate) struct Form {
    rows: usize,
    /// Bytes before compression.
    plain: usize,
    /// Bytes of the texts of each column of texts.
    texts: Vec<usize>,
}

/// Compressed rows.
pub(crate) struct Piece {
    pub(crate) compressed: Vec<u8>,
    pub(crate) form: Form,
}

/// The values of one column, to be read.
pub(crate) enum Values {
    /// Texts end to end, and the length of each.
    Text(Bytes, Vec<u32>),
    /// Numbers, or times.
    Numbers(Vec<i64>),
}

/// Rows that are complete.
pub(crate) struct Done {
    pub(crate) columns: Vec<Values>,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Done {
    /// Reads a piece back.
    ///
    /// # Errors
    /// It is not what was written.
    pub(crate) fn read(shape: &Shape, form: &Form, compressed: &[u8]) -> io::Result<Self> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a piece is damaged");
        let plain = Bytes::from(zstd::bulk::decompress(compressed, form.plain)?);
        let mut at = 0usize;
        let mut take = |length: Option<usize>| {
            let end = length
                .and_then(|length| at.checked_add(length))
                .filter(|end| *end <= plain.len())?;
            let taken = plain.slice(at..end);
            at = end;
            Some(taken)
        };
        let mut texts = form.texts.iter();
        let mut columns = Vec::with_capacity(shape.columns.len());
        for column in &shape.columns {
            columns.push(match column.kind {
                Kind::Text => {
                    let lengths = take(form.rows.checked_mul(4)).ok_or_else(damaged)?;
                    let (lengths, _) = lengths.as_chunks::<4>();
                    let lengths = lengths.iter().map(|four| u32::from_le_bytes(*four));
                    let lengths = lengths.collect();
                    Values::Text(take(texts.next().copied()).ok_or_else(damaged)?, lengths)
                }
                Kind::Time | Kind::Number => {
                    let numbers = take(form.rows.checked_mul(8)).ok_or_else(damaged)?;
                    let (numbers, _) = numbers.as_chunks::<8>();
                    let numbers = numbers.iter().map(|eight| i64::from_le_bytes(*eight));
                    Values::Numbers(numbers.collect())
                }
            });
        }
        Ok(Self {
            columns,
            rows: form.rows,
            bytes: form.plain,
        })
    }
}

/// The texts of a column, one after the other.
pub(crate) fn texts<'t>(
    bytes: &'t Bytes,
    lengths: &'t [u32],
) -> impl Iterator<Item = Option<Bytes>> + 't {
    let mut at = 0usize;
    lengths.iter().map(move |length| {
        if *length == NO_TEXT {
            return None;
        }
        let end = at.saturating_add(*length as usize).min(bytes.len());
        let text = bytes.slice(at..end);
        at = end;
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rows::Collection;

    #[test]
    fn rows_come_back_from_a_piece() {
        let shape = Shape::of_changes(Some(Collection::Like));
        let mut batch = Batch::new(&shape);
        for row in 0..1000i64 {
            let text = format!("text {row}");
            let values = shape.columns.iter().map(|column| match column.kind {
                _ if column.is_optional && row % 3 == 0 => Value::Null,
                Kind::Text => Value::Text(&text),
                Kind::Time => Value::Time(row),
                Kind::Number => Value::Number(row),
            });
            batch.push(values);
        }
        let piece = batch.compress().unwrap();
        assert!(piece.compressed.len() < batch.bytes() / 4);
        let (direct, read) = (
            batch.done(),
            Done::read(&shape, &piece.form, &piece.compressed).unwrap(),
        );
        assert_eq!((direct.rows, read.rows), (1000, 1000));
        for (a, b) in direct.columns.iter().zip(&read.columns) {
            match (a, b) {
                (Values::Text(a, of_a), Values::Text(b, of_b)) => {
                    assert_eq!((a, of_a), (b, of_b));
                    let all: Vec<_> = texts(a, of_a).collect();
                    assert_eq!(all[1].as_deref(), Some(&b"text 1"[..]));
                    assert_eq!(all.len(), 1000);
                }
                (Values::Numbers(a), Values::Numbers(b)) => assert_eq!(a, b),
                _ => panic!("columns of different kinds"),
            }
        }
        assert!(Done::read(&shape, &piece.form, &piece.compressed[..50]).is_err());
    }
}
