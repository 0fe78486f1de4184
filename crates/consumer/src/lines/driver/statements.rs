//! The statements that the line form needs of a connection.

use pg::DbError;

/// One connection.
pub trait Driver: Send {
    /// Runs statements that return nothing of interest.
    ///
    /// # Errors
    /// See [`DbError`].
    fn batch(&mut self, sql: &str) -> Result<(), DbError>;

    /// Runs a statement that returns one number; it is prepared once and kept.
    ///
    /// # Errors
    /// See [`DbError`].
    fn number(&mut self, sql: &str) -> Result<u64, DbError>;

    /// Runs `COPY ... FROM STDIN` with `chunks` as its data.
    ///
    /// # Errors
    /// See [`DbError`].
    fn copy_in(&mut self, sql: &str, chunks: &[&[u8]]) -> Result<(), DbError>;

    /// Runs a statement with text parameters. If `keep`, it is prepared once and kept.
    ///
    /// # Errors
    /// See [`DbError`].
    fn execute(&mut self, sql: &str, parameters: &[&str], keep: bool) -> Result<(), DbError>;
}
