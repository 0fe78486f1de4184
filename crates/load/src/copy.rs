//! PostgreSQL's binary COPY format (manual, "COPY", section "Binary Format"), and COPY itself.

use pg::DbError;
use postgres::Client;
use rows::Field;
use std::io::Write;

/// What every stream begins with: signature, flags, length of the header extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What every stream ends with.
pub const TRAILER: &[u8] = &[0xff, 0xff];
/// Size of the pieces that the client gets, because it copies each piece.
const SENT_AT_ONCE: usize = 256 << 10;
/// Version of `jsonb`'s binary form.
const JSONB_VERSION: u8 = 1;

/// Runs `COPY ... FROM STDIN` with `pieces` as its data.
///
/// # Errors
/// See [`DbError`].
pub fn copy_in(client: &mut Client, sql: &str, pieces: &[&[u8]]) -> Result<(), DbError> {
    let mut writer = client.copy_in(sql)?;
    for piece in pieces.iter().flat_map(|piece| piece.chunks(SENT_AT_ONCE)) {
        writer
            .write_all(piece)
            .map_err(|error| match error.downcast::<postgres::Error>() {
                Ok(error) => error.into(),
                Err(error) => DbError::lost(error.to_string()),
            })?;
    }
    writer.finish()?;
    Ok(())
}

/// Appends a row to `out`.
///
/// # Panics
/// A value has 2 GiB or more, which no line or block that is read here can hold.
pub fn append_row(out: &mut Vec<u8>, values: &[Field<'_>]) {
    let count = i16::try_from(values.len()).expect("tables have few columns");
    make_room(out, 2 + values.iter().map(encoded_length).sum::<usize>());
    out.extend(count.to_be_bytes());
    for value in values {
        match value {
            Field::Null => out.extend((-1i32).to_be_bytes()),
            Field::Text(text) => {
                out.extend(length(text.len()));
                out.extend(text.as_bytes());
            }
            Field::Jsonb(json) => {
                out.extend(length(json.len() + 1));
                out.push(JSONB_VERSION);
                out.extend(json.as_bytes());
            }
        }
    }
}

/// Grows the buffer by a quarter, not twofold: the budget counts bytes, but the process holds the
/// capacity.
fn make_room(out: &mut Vec<u8>, bytes: usize) {
    if out.capacity() - out.len() < bytes {
        out.reserve_exact(bytes.max(out.len() / 4));
    }
}

fn encoded_length(value: &Field<'_>) -> usize {
    match value {
        Field::Null => 4,
        Field::Text(text) => 4 + text.len(),
        Field::Jsonb(json) => 5 + json.len(),
    }
}

fn length(bytes: usize) -> [u8; 4] {
    i32::try_from(bytes)
        .expect("values are far below 2 GiB")
        .to_be_bytes()
}

/// The text values of the first row in `rows`, as [`append_row`] wrote them; NULL and `jsonb` are
/// read as empty.
#[must_use]
pub fn first_row_texts(rows: &[u8]) -> Vec<&str> {
    let mut texts = Vec::new();
    let Some((count, mut rest)) = rows.split_first_chunk::<2>() else {
        return texts;
    };
    for _ in 0..i16::from_be_bytes(*count) {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            break;
        };
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let Some((value, after)) = after.split_at_checked(length) else {
            break;
        };
        texts.push(std::str::from_utf8(value).unwrap_or_default());
        rest = after;
    }
    texts
}
