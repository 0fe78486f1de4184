//! A connection that stores batches in transactions, and keeps what it has not committed.

use crate::lines::batch::{Batch, Part};
use crate::lines::driver::{Driver, DriverKind};
use crate::lines::merge;
use load::copy::{HEADER, TRAILER};
use load::{Accounts, staging};
use pg::{DbError, DbErrorKind, Decision, Step, Waits, decide};
use std::collections::HashSet;

/// How a [`Writer`] works.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Where to connect to.
    pub url: String,
    /// The AppView's schema.
    pub schema: String,
    /// Which driver.
    pub driver: DriverKind,
    /// Records a transaction.
    pub transaction_records: usize,
    /// A transaction ends earlier than that when it holds so many bytes, which have to be kept
    /// until it is committed.
    pub transaction_bytes: usize,
}

/// A record that the server refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Its URI.
    pub uri: String,
    /// Its CID.
    pub cid: String,
    /// Its `indexedAt`.
    pub indexed_at: String,
    /// Its value as JSON.
    pub json: String,
    /// Why.
    pub reason: String,
}

/// What a writer did since it was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriterReport {
    /// Records whose transaction is committed.
    pub committed: u64,
    /// Rows of the collections' own tables that were new.
    pub new_rows: u64,
    /// Records that are another one's duplicate.
    pub duplicates: u64,
}

/// What a transaction holds.
enum Piece {
    Records(Batch),
    Accounts(Accounts),
}

/// A connection, its open transaction, and the batches in it.
pub struct Writer<'w> {
    options: WriterOptions,
    driver: Option<Box<dyn Driver>>,
    in_transaction: bool,
    open: Vec<Piece>,
    open_records: usize,
    open_accounts: usize,
    open_bytes: usize,
    /// Records that were refused already, so that a replay does not report them again.
    refused: HashSet<String>,
    report: WriterReport,
    /// What the open transaction did so far.
    open_report: WriterReport,
    on_refused: Box<dyn FnMut(Refused) + Send + 'w>,
    /// How the server is waited for.
    waits: Waits<'w>,
}

impl<'w> Writer<'w> {
    /// A writer that connects when it is needed.
    pub fn new(
        options: WriterOptions,
        on_refused: impl FnMut(Refused) + Send + 'w,
        waits: Waits<'w>,
    ) -> Self {
        Self {
            options,
            driver: None,
            in_transaction: false,
            open: Vec::new(),
            open_records: 0,
            open_accounts: 0,
            open_bytes: 0,
            refused: HashSet::new(),
            report: WriterReport::default(),
            open_report: WriterReport::default(),
            on_refused: Box::new(on_refused),
            waits,
        }
    }

    /// Connects now, so that a wrong URL or schema shows at once. One try.
    ///
    /// # Errors
    /// See [`DbError`].
    pub fn connect(&mut self) -> Result<(), DbError> {
        let mut driver = self.options.driver.connect(&self.options.url)?;
        driver.batch(&staging::session(&self.options.schema))?;
        self.driver = Some(driver);
        self.in_transaction = false;
        Ok(())
    }

    /// Stores a batch; commits if the transaction is full.
    ///
    /// # Errors
    /// Something that waiting does not mend, or the wait was given up.
    pub fn write(&mut self, batch: Batch) -> Result<(), DbError> {
        self.open_records += batch.records();
        self.open_bytes += batch.bytes();
        self.add(Piece::Records(batch))
    }

    /// Stores what is known of accounts, in the same transaction.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write_accounts(&mut self, accounts: Accounts) -> Result<(), DbError> {
        self.open_accounts += accounts.len();
        self.add(Piece::Accounts(accounts))
    }

    /// Stores a piece; commits if the transaction is full.
    fn add(&mut self, piece: Piece) -> Result<(), DbError> {
        self.open.push(piece);
        let last = self.open.len() - 1;
        self.persist(last, |writer| writer.apply(last))?;
        let WriterOptions {
            transaction_records,
            transaction_bytes,
            ..
        } = self.options;
        if self.open_records.max(self.open_accounts) >= transaction_records
            || self.open_bytes >= transaction_bytes
        {
            self.commit()?;
        }
        Ok(())
    }

    /// Commits what is pending.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn commit(&mut self) -> Result<(), DbError> {
        if self.open.is_empty() {
            return Ok(());
        }
        self.persist(self.open.len(), |writer| {
            let out_of_date = ledger::slices::out_of_date(&writer.options.schema);
            let driver = writer.driver()?;
            driver.batch(&ledger::slices::load_commits())?;
            if driver.number(ledger::slices::EXISTS)? > 0 {
                driver.batch(&out_of_date)?;
            }
            driver.batch("COMMIT")?;
            writer.in_transaction = false;
            Ok(())
        })?;
        self.report.committed +=
            u64::try_from(self.open_records - self.refused.len()).unwrap_or(u64::MAX);
        self.report.new_rows += self.open_report.new_rows;
        self.report.duplicates += self.open_report.duplicates;
        self.open_report = WriterReport::default();
        self.open.clear();
        self.refused.clear();
        (self.open_records, self.open_accounts, self.open_bytes) = (0, 0, 0);
        Ok(())
    }

    /// What was done since the last call.
    pub fn drain_report(&mut self) -> WriterReport {
        std::mem::take(&mut self.report)
    }

    fn driver(&mut self) -> Result<&mut Box<dyn Driver>, DbError> {
        self.driver
            .as_mut()
            .ok_or_else(|| DbError::lost("not connected"))
    }

    /// Does `step`; when the connection or the transaction is lost on the way, gets a new one,
    /// writes the first `before` open batches again, and does `step` once more.
    fn persist(
        &mut self,
        before: usize,
        mut step: impl FnMut(&mut Self) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        let waits = self.waits;
        pg::persist(Step::Short, waits, || {
            let ready = match self.driver {
                Some(_) => Ok(()),
                None => self.replay(before),
            };
            let outcome = ready.and_then(|()| step(self));
            if let Err(error) = &outcome {
                // What was not committed is in memory.
                self.driver = None;
                tracing::debug!(%error, batches = before, "what is open needs a new connection");
            }
            outcome
        })
    }

    /// A new connection, and in it the first `before` open batches.
    fn replay(&mut self, before: usize) -> Result<(), DbError> {
        self.connect()?;
        self.open_report = WriterReport::default();
        (0..before).try_for_each(|at| self.apply(at))
    }

    fn apply(&mut self, at: usize) -> Result<(), DbError> {
        let piece = std::mem::replace(&mut self.open[at], Piece::Accounts(Accounts::default()));
        let outcome = match &piece {
            Piece::Records(batch) => self.apply_part(batch.all()),
            Piece::Accounts(accounts) => self.apply_accounts(accounts),
        };
        self.open[at] = piece;
        outcome
    }

    fn apply_accounts(&mut self, accounts: &Accounts) -> Result<(), DbError> {
        let schema = self.options.schema.clone();
        if !self.in_transaction {
            self.driver()?.batch("BEGIN")?;
            self.in_transaction = true;
        }
        let driver = self.driver()?;
        for (sql, parameters) in accounts.statements(&schema) {
            let parameters: Vec<&str> = parameters.iter().map(String::as_str).collect();
            driver.execute(&sql, &parameters, true)?;
        }
        Ok(())
    }

    /// Stores a part; if the server refuses a value in it, both halves, down to the one record,
    /// which is left out.
    fn apply_part(&mut self, part: Part<'_>) -> Result<(), DbError> {
        let mut todo = vec![part];
        while let Some(part) = todo.pop() {
            if part.records() == 0 {
                continue;
            }
            match self.try_part(part) {
                Err(error) if decide(&error) == Decision::Split => {
                    tracing::debug!(%error, "a batch is halved");
                    self.driver()?
                        .batch("ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part")?;
                    if part.records() > 1 {
                        let [first, second] = part.halves();
                        todo.extend([second, first]);
                    } else {
                        self.refuse(part, &error);
                    }
                }
                other => other?,
            }
        }
        Ok(())
    }

    fn try_part(&mut self, part: Part<'_>) -> Result<(), DbError> {
        let tables: Vec<_> = part.tables().collect();
        let mut sql = if self.in_transaction {
            String::new()
        } else {
            "BEGIN;".to_owned()
        };
        // Truncated outside of the savepoint: then PostgreSQL empties the files in place instead of
        // making new ones.
        sql.push_str(&merge::truncate(&tables));
        sql.push_str("; SAVEPOINT part");
        self.driver()?.batch(&sql)?;
        self.in_transaction = true;
        let driver = self.driver()?.as_mut();
        for (table, rows) in &tables {
            driver.copy_in(&staging::stage_into(table), &[HEADER, rows, TRAILER])?;
        }
        let own = rows::own_table(part.collection());
        let infos: Vec<_> = tables.iter().map(|(info, _)| *info).collect();
        let new = driver.number(&merge::merge(own, &infos))?;
        let of_own = own.filter(|own| infos.iter().any(|t| t.id == own.id));
        let mut duplicates = 0;
        if let Some(own) = of_own {
            // Records without a row of their own (a profile that is not `self`) only make this look
            // more often.
            let all_new = usize::try_from(new) == Ok(part.records());
            if let (false, Some(sql)) = (all_new, merge::note_duplicates(&own)) {
                duplicates = driver.number(&sql)?;
            }
        }
        driver.batch("RELEASE SAVEPOINT part")?;
        self.open_report.new_rows += new;
        self.open_report.duplicates += duplicates;
        Ok(())
    }

    fn refuse(&mut self, part: Part<'_>, error: &DbError) {
        debug_assert_eq!(error.kind, DbErrorKind::Data);
        let row = part.record_row();
        let column = |at: usize| row.get(at).copied().unwrap_or_default().to_owned();
        let uri = column(0);
        if self.refused.insert(uri.clone()) {
            let (cid, json, indexed_at) = (column(1), column(3), column(4));
            (self.on_refused)(Refused {
                uri,
                cid,
                indexed_at,
                json,
                reason: error.to_string(),
            });
        }
    }
}
