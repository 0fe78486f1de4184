//! libpq, PostgreSQL's own client library: a thin safe layer over its C functions, as far as
//! [`Driver`] needs them (manual, chapter "libpq").

#![allow(unsafe_code)]

use super::statements::Driver;
use pg::DbError;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

/// An open connection. Used by one thread at a time.
struct Connection(*mut pq_sys::PGconn);

// SAFETY: libpq allows a connection to be used by any thread, as long as it is one at a time;
// `&mut` sees to that.
unsafe impl Send for Connection {}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the pointer came from PQconnectdb and is not used after this.
        unsafe { pq_sys::PQfinish(self.0) }
    }
}

/// A result that is freed with the value.
struct PgResult(*mut pq_sys::PGresult);

impl Drop for PgResult {
    fn drop(&mut self) {
        // SAFETY: the pointer came from libpq and is not used after this; PQclear takes null.
        unsafe { pq_sys::PQclear(self.0) }
    }
}

/// The text at `pointer`, which libpq keeps alive at least until the caller returns.
fn text(pointer: *const c_char) -> Option<String> {
    // SAFETY: libpq returns null or a zero-terminated string.
    (!pointer.is_null()).then(|| {
        unsafe { CStr::from_ptr(pointer) }
            .to_string_lossy()
            .trim()
            .to_owned()
    })
}

fn c_string(text: &str) -> Result<CString, DbError> {
    CString::new(text).map_err(|_| other("a zero byte in a statement"))
}

fn other(message: &str) -> DbError {
    DbError::other(message)
}

pub(crate) struct NativeDriver {
    connection: Connection,
    /// Names of prepared statements by their text.
    kept: HashMap<String, CString>,
}

impl NativeDriver {
    pub(crate) fn connect(url: &str) -> Result<Self, DbError> {
        let url = c_string(url)?;
        // SAFETY: the string is zero-terminated and outlives the call.
        let connection = Connection(unsafe { pq_sys::PQconnectdb(url.as_ptr()) });
        if connection.0.is_null() {
            return Err(DbError::lost("libpq has no memory for a connection"));
        }
        let driver = Self {
            connection,
            kept: HashMap::new(),
        };
        if driver.is_lost() {
            return Err(driver.lost());
        }
        driver.run(pg::SESSION)?;
        Ok(driver)
    }

    fn is_lost(&self) -> bool {
        // SAFETY: the connection is open.
        unsafe { pq_sys::PQstatus(self.connection.0) != pq_sys::ConnStatusType::CONNECTION_OK }
    }

    fn lost(&self) -> DbError {
        // SAFETY: the connection is open; the message is copied at once.
        DbError::lost(
            text(unsafe { pq_sys::PQerrorMessage(self.connection.0) }).unwrap_or_default(),
        )
    }

    /// The result, or the error that it is.
    fn checked(&self, result: PgResult) -> Result<PgResult, DbError> {
        use pq_sys::ExecStatusType::{
            PGRES_COMMAND_OK, PGRES_COPY_IN, PGRES_EMPTY_QUERY, PGRES_TUPLES_OK,
        };
        // SAFETY: PQresultStatus takes null and says that it is an error.
        let status = unsafe { pq_sys::PQresultStatus(result.0) };
        if [
            PGRES_COMMAND_OK,
            PGRES_TUPLES_OK,
            PGRES_COPY_IN,
            PGRES_EMPTY_QUERY,
        ]
        .contains(&status)
        {
            return Ok(result);
        }
        // SAFETY: PQresultErrorField takes null; the text is copied before the result is freed.
        let field =
            |code: u8| text(unsafe { pq_sys::PQresultErrorField(result.0, c_int::from(code)) });
        let message = field(b'M').unwrap_or_else(|| self.lost().message);
        match field(b'C') {
            Some(code) => Err(DbError::of_server(&code, &message)),
            None if self.is_lost() || result.0.is_null() => Err(self.lost()),
            None => Err(other(&message)),
        }
    }

    fn run(&self, sql: &str) -> Result<PgResult, DbError> {
        let sql = c_string(sql)?;
        // SAFETY: the connection is open, the string is zero-terminated and outlives the call.
        self.checked(PgResult(unsafe {
            pq_sys::PQexec(self.connection.0, sql.as_ptr())
        }))
    }

    fn name_of(&mut self, sql: &str) -> Result<CString, DbError> {
        if let Some(name) = self.kept.get(sql) {
            return Ok(name.clone());
        }
        let name = c_string(&format!("kept{}", self.kept.len()))?;
        let statement = c_string(sql)?;
        // SAFETY: as in `run`; no parameter types are given, so the array may be null.
        let result = unsafe {
            pq_sys::PQprepare(
                self.connection.0,
                name.as_ptr(),
                statement.as_ptr(),
                0,
                ptr::null(),
            )
        };
        self.checked(PgResult(result))?;
        self.kept.insert(sql.to_owned(), name.clone());
        Ok(name)
    }

    fn run_kept(&self, name: &CStr, values: &[*const c_char]) -> Result<PgResult, DbError> {
        let count = c_int::try_from(values.len()).map_err(|_| other("too many parameters"))?;
        // SAFETY: `values` holds `count` zero-terminated strings that outlive the call; text format
        // needs no lengths or formats.
        let result = unsafe {
            pq_sys::PQexecPrepared(
                self.connection.0,
                name.as_ptr(),
                count,
                values.as_ptr(),
                ptr::null(),
                ptr::null(),
                0,
            )
        };
        self.checked(PgResult(result))
    }
}

impl Driver for NativeDriver {
    fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        self.run(sql).map(drop)
    }

    fn number(&mut self, sql: &str) -> Result<u64, DbError> {
        let name = self.name_of(sql)?;
        let result = self.run_kept(&name, &[])?;
        // SAFETY: the result is not null, it was checked; PQgetvalue is asked for a row and column
        // that are there.
        let value = unsafe {
            let found = pq_sys::PQntuples(result.0) > 0 && pq_sys::PQnfields(result.0) > 0;
            found
                .then(|| text(pq_sys::PQgetvalue(result.0, 0, 0)))
                .flatten()
        };
        value
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| other("no number where one was expected"))
    }

    fn copy_in(&mut self, sql: &str, chunks: &[&[u8]]) -> Result<(), DbError> {
        self.run(sql)?;
        // libpq takes a 32-bit length; a part that fails makes the end fail, too, which tells why.
        let sent = chunks
            .iter()
            .flat_map(|chunk| chunk.chunks(1 << 20))
            .all(|part| {
                let length = c_int::try_from(part.len()).unwrap_or(0);
                // SAFETY: the pointer and length are those of a live slice.
                unsafe {
                    pq_sys::PQputCopyData(self.connection.0, part.as_ptr().cast(), length) == 1
                }
            });
        // SAFETY: the connection is in copy mode; null means that the copy ends well.
        if unsafe { pq_sys::PQputCopyEnd(self.connection.0, ptr::null()) } != 1 || !sent {
            return Err(self.lost());
        }
        // All results are read, whatever the first one says, so that the connection is ready again.
        let mut outcome = Ok(());
        loop {
            // SAFETY: the connection is open; null means that there is no further result.
            let result = PgResult(unsafe { pq_sys::PQgetResult(self.connection.0) });
            if result.0.is_null() {
                return outcome;
            }
            outcome = outcome.and(self.checked(result).map(drop));
        }
    }

    fn execute(&mut self, sql: &str, parameters: &[&str], keep: bool) -> Result<(), DbError> {
        let texts: Vec<CString> = parameters
            .iter()
            .map(|value| c_string(value))
            .collect::<Result<_, _>>()?;
        let values: Vec<*const c_char> = texts.iter().map(|value| value.as_ptr()).collect();
        if keep {
            let name = self.name_of(sql)?;
            return self.run_kept(&name, &values).map(drop);
        }
        let count = c_int::try_from(values.len()).map_err(|_| other("too many parameters"))?;
        let sql = c_string(sql)?;
        // SAFETY: as in `run_kept`.
        let result = unsafe {
            pq_sys::PQexecParams(
                self.connection.0,
                sql.as_ptr(),
                count,
                ptr::null(),
                values.as_ptr(),
                ptr::null(),
                ptr::null(),
                0,
            )
        };
        self.checked(PgResult(result)).map(drop)
    }
}
