//! The Rust driver.

use super::statements::Driver;
use load::copy;
use pg::DbError;
use postgres::types::ToSql;
use postgres::{Client, Statement};
use std::collections::HashMap;

pub(crate) struct RustDriver {
    client: Client,
    kept: HashMap<String, Statement>,
}

impl RustDriver {
    pub(crate) fn connect(url: &str) -> Result<Self, DbError> {
        Ok(Self {
            client: pg::connect(url)?,
            kept: HashMap::new(),
        })
    }

    fn statement(&mut self, sql: &str) -> Result<Statement, DbError> {
        if let Some(statement) = self.kept.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql)?;
        self.kept.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}

impl Driver for RustDriver {
    fn batch(&mut self, sql: &str) -> Result<(), DbError> {
        Ok(self.client.batch_execute(sql)?)
    }

    fn number(&mut self, sql: &str) -> Result<u64, DbError> {
        let statement = self.statement(sql)?;
        let value: i64 = self.client.query_one(&statement, &[])?.try_get(0)?;
        Ok(u64::try_from(value).unwrap_or(0))
    }

    fn copy_in(&mut self, sql: &str, chunks: &[&[u8]]) -> Result<(), DbError> {
        copy::copy_in(&mut self.client, sql, chunks)
    }

    fn execute(&mut self, sql: &str, parameters: &[&str], keep: bool) -> Result<(), DbError> {
        let values: Vec<&(dyn ToSql + Sync)> = parameters
            .iter()
            .map(|p| p as &(dyn ToSql + Sync))
            .collect();
        if keep {
            let statement = self.statement(sql)?;
            self.client.execute(&statement, &values)?;
        } else {
            self.client.execute(sql, &values)?;
        }
        Ok(())
    }
}
