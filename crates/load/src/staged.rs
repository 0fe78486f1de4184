//! What is in the temporary tables of a session that merges, so that only those are made that are
//! needed, and only what was filled is emptied, in the cheaper way.
//!
//! To make all of them takes the server 50 to 100 ms: as long as a merge of some repos.
//!
//! TRUNCATE makes new files, whatever was in a table: 46 ms on average for all tables, and twice
//! that on a busy machine. DELETE costs as much as its rows, but leaves them in the way of later
//! statements. So tables are truncated when enough was in them.

use crate::staging::{self, name_of};
use appview::table::{self, TableInfo};
use pg::DbError;
use postgres::Client;

/// Tables are truncated when so many bytes were staged since they last were.
const TRUNCATED_AT: usize = 4 << 20;
/// What a row of `had` and `touched` counts as.
const ROW: u64 = 200;

/// The rows in temporary tables.
#[derive(Default)]
pub(crate) struct Staged {
    /// The tables that are there.
    made: Vec<TableInfo>,
    /// How many of them the open transaction found.
    kept: usize,
    /// The tables of the rows that the open transaction staged.
    filled: Vec<TableInfo>,
    /// The tables with rows of the last transaction that was committed.
    left: Vec<TableInfo>,
    /// The tables that had rows since they were last truncated.
    dirty: Vec<TableInfo>,
    /// Bytes that were staged since then, and in the open transaction.
    bytes: usize,
    new_bytes: usize,
    /// Whether rows of the last transaction are in `had` and `touched`.
    is_used: bool,
    /// Whether the open transaction began with truncating.
    is_truncated: bool,
}

impl Staged {
    /// Begins with empty tables; in a transaction that has just begun.
    pub(crate) fn begin(&mut self, client: &mut Client) -> Result<(), DbError> {
        self.is_truncated = self.bytes >= TRUNCATED_AT;
        self.kept = self.made.len();
        // Every merge asks them.
        self.make(
            client,
            &[table::RECORD.info(), table::DUPLICATE_RECORD.info()],
        )?;
        if !self.is_used {
            return Ok(());
        }
        let name = |info: &TableInfo| format!("pg_temp.\"{}\"", name_of(info));
        let own = ["pg_temp.had".to_owned(), "pg_temp.touched".to_owned()];
        let sql = match self.is_truncated {
            true => {
                let names: Vec<String> = self.dirty.iter().map(name).chain(own).collect();
                format!("TRUNCATE {}", names.join(", "))
            }
            false => {
                let names = self.left.iter().map(name).chain(own);
                let deletes: Vec<String> =
                    names.map(|name| format!("DELETE FROM {name}")).collect();
                deletes.join("; ")
            }
        };
        Ok(client.batch_execute(&sql)?)
    }

    /// Makes sure that these tables are there.
    pub(crate) fn make(
        &mut self,
        client: &mut Client,
        tables: &[TableInfo],
    ) -> Result<(), DbError> {
        let mut sql = String::new();
        for info in tables {
            if !self.made.iter().any(|made| made.id == info.id) {
                sql.push_str(&staging::create(info));
                self.made.push(*info);
            }
        }
        match sql.is_empty() {
            true => Ok(()),
            false => Ok(client.batch_execute(&sql)?),
        }
    }

    /// Fills the temporary tables of `tables`.
    pub(crate) fn stage(
        &mut self,
        client: &mut Client,
        tables: &[(TableInfo, &[u8])],
    ) -> Result<(), DbError> {
        for (info, rows) in tables {
            add(&mut self.filled, *info);
            add(&mut self.dirty, *info);
            self.new_bytes = self.new_bytes.saturating_add(rows.len());
        }
        let infos: Vec<TableInfo> = tables.iter().map(|(info, _)| *info).collect();
        self.make(client, &infos)?;
        staging::stage(client, tables)
    }

    /// So many rows were in `had`.
    pub(crate) fn had(&mut self, rows: u64) {
        let bytes = usize::try_from(rows.saturating_mul(ROW)).unwrap_or(usize::MAX);
        self.new_bytes = self.new_bytes.saturating_add(bytes);
    }

    /// The tables of which the open transaction staged rows.
    pub(crate) fn tables(&self) -> &[TableInfo] {
        &self.filled
    }

    /// The open transaction was committed.
    pub(crate) fn committed(&mut self) {
        if std::mem::take(&mut self.is_truncated) {
            self.bytes = 0;
            self.dirty.clone_from(&self.filled);
        }
        self.bytes = self
            .bytes
            .saturating_add(std::mem::take(&mut self.new_bytes));
        self.left = std::mem::take(&mut self.filled);
        self.kept = self.made.len();
        self.is_used = true;
    }

    /// The open transaction was rolled back: what was there before it is there again.
    pub(crate) fn rolled_back(&mut self) {
        self.filled.clear();
        self.new_bytes = 0;
        self.is_truncated = false;
        let gone = self.made.split_off(self.kept);
        let is_gone = |table: &TableInfo| gone.iter().any(|gone| gone.id == table.id);
        self.dirty.retain(|table| !is_gone(table));
    }
}

fn add(tables: &mut Vec<TableInfo>, info: TableInfo) {
    if !tables.iter().any(|table| table.id == info.id) {
        tables.push(info);
    }
}
