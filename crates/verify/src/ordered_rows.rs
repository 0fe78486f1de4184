//! The rows of some accounts, table by table, each in the order of the URIs of their records.
//!
//! A slice reads each table in one scan. In a database whose text sorts by bytes, the accounts of a
//! slice are one range of each index, whose order is that of the URIs: nothing is looked up row by
//! row, nothing is sorted, and rows without a record come by as well. Elsewhere the rows of the
//! accounts' records are looked up by URI, each in the table of its collection, and sorted. The
//! server keeps all scans of a slice open (as portals) in one snapshot, and answers with some
//! hundred rows at a time, so a repo of any size needs little memory.

use appview::table::{self, Kind, TableInfo};
use ledger::verified::Range;
use load::DbError;
use postgres::types::ToSql;
use postgres::{Error, Portal, Row, Statement, Transaction};
use rows::Collection;

/// Rows that are read at once from a table at first, and at most.
const ROWS: (i32, i32) = (32, 512);
/// Bytes of records that are read at once, about.
const BYTES: usize = 256 << 10;

/// How the rows of accounts are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// A range of URIs, which may have no end.
    Range { has_end: bool },
    /// The rows under the URIs of some accounts, one after the other, and the records that name
    /// them.
    Accounts,
    /// The records that name some accounts, and what is found by their URIs. Of everything, only
    /// in the tables of their collections: the rest is searched as a whole.
    Records { of_all: bool },
}

/// The accounts whose rows are read.
pub(crate) enum Accounts<'a> {
    /// A range, with the DIDs in it that are stored, if text does not sort by bytes.
    Range(&'a Range, Option<&'a [String]>),
    /// These, in the order of their URIs. Whether text sorts by bytes.
    Some(&'a [String], bool),
}

/// The statements of a connection, prepared when they are needed.
#[derive(Default)]
pub(crate) struct Statements {
    known: Vec<(Way, Vec<Statement>)>,
}

impl Statements {
    /// Those of all tables, in the order of [`table::ALL`].
    fn of(&mut self, txn: &mut Transaction<'_>, way: Way) -> Result<Vec<Statement>, Error> {
        if let Some((_, known)) = self.known.iter().find(|(known, _)| *known == way) {
            return Ok(known.clone());
        }
        let prepared: Vec<Statement> = table::ALL
            .iter()
            .map(|info| txn.prepare(&sql(way, info)))
            .collect::<Result<_, _>>()?;
        self.known.push((way, prepared.clone()));
        Ok(prepared)
    }
}

/// What a statement is about.
enum Parameter {
    Text(String),
    Texts(Vec<String>),
}

/// The statements for some accounts, and what they are about.
pub(crate) struct Prepared {
    statements: Vec<Statement>,
    /// Of the table `record`, if that is read in another way.
    of_records: Option<Vec<Parameter>>,
    of_rows: Vec<Parameter>,
}

impl Prepared {
    pub(crate) fn new(
        txn: &mut Transaction<'_>,
        statements: &mut Statements,
        accounts: &Accounts<'_>,
    ) -> Result<Self, Error> {
        let (way, of_rows) = match accounts {
            Accounts::Range(range, None) => {
                // Before the first account there may be what is no URI at all.
                let is_first = range.lower.is_empty();
                let lower = Some(&range.lower).filter(|_| !is_first);
                let lower = lower.map_or_else(String::new, |did| format!("at://{did}"));
                let upper = range.upper.as_ref().map(|did| format!("at://{did}"));
                let has_end = upper.is_some();
                let bounds = std::iter::once(lower).chain(upper);
                (
                    Way::Range { has_end },
                    bounds.map(Parameter::Text).collect(),
                )
            }
            Accounts::Some(dids, true) => {
                // 0 is the character after the slash.
                let bounds = ['/', '0'].map(|end| {
                    let bounds = dids.iter().map(|did| format!("at://{did}{end}"));
                    Parameter::Texts(bounds.collect())
                });
                (Way::Accounts, bounds.into())
            }
            Accounts::Range(_, Some(dids)) => (
                Way::Records { of_all: true },
                vec![Parameter::Texts(dids.to_vec())],
            ),
            Accounts::Some(dids, false) => (
                Way::Records { of_all: false },
                vec![Parameter::Texts(dids.to_vec())],
            ),
        };
        let of_records = match accounts {
            Accounts::Some(dids, true) => Some(vec![Parameter::Texts(dids.to_vec())]),
            _ => None,
        };
        Ok(Self {
            statements: statements.of(txn, way)?,
            of_records,
            of_rows,
        })
    }

    /// Opens the rows of all tables, in the order of [`table::ALL`].
    pub(crate) fn open(&self, txn: &mut Transaction<'_>) -> Result<Vec<OrderedRows>, Error> {
        let tables = table::ALL.iter().zip(&self.statements);
        let open = |(info, statement): (&TableInfo, &Statement)| {
            let own = self.of_records.as_ref();
            let own = own.filter(|_| info.id == table::RECORD.info().id);
            let parameters = own.unwrap_or(&self.of_rows).iter();
            let parameters: Vec<&(dyn ToSql + Sync)> = parameters
                .map(|parameter| match parameter {
                    Parameter::Text(text) => text as &(dyn ToSql + Sync),
                    Parameter::Texts(texts) => texts,
                })
                .collect();
            Ok(OrderedRows {
                table: *info,
                portal: txn.bind(statement, &parameters)?,
                rows: Vec::new().into_iter(),
                wanted: ROWS.0,
                is_at_end: false,
                head: None,
                key: String::new(),
            })
        };
        tables.map(open).collect()
    }
}

/// The SQL for one table. Its first column is the URI of the row's record, then come the columns in
/// their order as text; of a notification the reason is among them.
fn sql(way: Way, info: &TableInfo) -> String {
    let name = info.name;
    let is_record = info.id == table::RECORD.info().id;
    let columns: Vec<String> = info
        .columns
        .iter()
        .map(|column| match column.kind {
            Kind::Text => format!("x.\"{}\"", column.name),
            Kind::Jsonb => format!("x.\"{}\"::text", column.name),
        })
        .collect();
    let select = format!("SELECT x.\"{}\", {} FROM", info.uri, columns.join(", "));
    let order = format!("ORDER BY x.\"{}\"", info.uri);
    match way {
        Way::Range { has_end } => {
            let key = info.index_column();
            let end = if has_end {
                format!(" AND x.\"{key}\" < $2")
            } else {
                String::new()
            };
            format!("{select} \"{name}\" x WHERE x.\"{key}\" >= $1{end} {order}")
        }
        Way::Accounts if is_record => {
            format!("{select} record x WHERE x.did = ANY($1) {order}")
        }
        // Account by account, and each in the order of an index: nothing is sorted.
        Way::Accounts => {
            let is_of_account = info.is_of_account("a.low", "a.high");
            format!(
                "{select} unnest($1::text[], $2::text[]) a (low, high) CROSS JOIN LATERAL
                   (SELECT x.* FROM \"{name}\" x WHERE {is_of_account} {order} OFFSET 0) x"
            )
        }
        Way::Records { .. } if is_record => {
            format!("{select} record x WHERE x.did = ANY($1) {order} COLLATE \"C\"")
        }
        Way::Records { of_all } => {
            let rows = info.rows_of_record("r.uri");
            let among = if of_all {
                of_collections(info)
            } else {
                String::new()
            };
            format!(
                "{select} record r CROSS JOIN {rows} WHERE r.did = ANY($1){among} {order} COLLATE \"C\""
            )
        }
    }
}

/// SQL: the condition that a record `r` may have rows in a table; begins with AND, or is empty.
fn of_collections(info: &TableInfo) -> String {
    let collections: Vec<String> = collections_of(info)
        .iter()
        .map(|collection| format!("'{}'", collection.nsid()))
        .collect();
    match collections.is_empty() {
        true => String::new(),
        false => format!(
            " AND split_part(r.uri, '/', 4) IN ({})",
            collections.join(", ")
        ),
    }
}

/// The collections whose records may have rows in a table; none means any.
pub(crate) fn collections_of(info: &TableInfo) -> Vec<Collection> {
    let shared = [
        table::RECORD.info().id,
        table::NOTIFICATION.info().id,
        table::DUPLICATE_RECORD.info().id,
    ];
    if shared.contains(&info.id) {
        return Vec::new();
    }
    if info.id == table::FEED_ITEM.info().id {
        return vec![Collection::Post, Collection::Repost];
    }
    let own = Collection::ALL
        .iter()
        .find(|collection| rows::own_table(**collection).is_some_and(|own| own.id == info.id));
    // The remaining tables are those of embeds, quotes and the author's own replies.
    vec![own.copied().unwrap_or(Collection::Post)]
}

/// The rows of one table, in the order of the URIs of their records.
pub(crate) struct OrderedRows {
    /// The table.
    pub(crate) table: TableInfo,
    portal: Portal,
    rows: std::vec::IntoIter<Row>,
    /// Rows to read next.
    wanted: i32,
    is_at_end: bool,
    head: Option<Row>,
    /// The URI of `head`.
    key: String,
}

impl OrderedRows {
    /// The URI that the next row names; nothing at the end.
    pub(crate) fn key(&mut self, txn: &mut Transaction<'_>) -> Result<Option<&str>, DbError> {
        if self.head.is_none() {
            self.advance(txn)?;
        }
        Ok(self.head.is_some().then_some(self.key.as_str()))
    }

    /// Takes the row whose URI [`OrderedRows::key`] answered.
    pub(crate) fn take(&mut self) -> Option<Row> {
        self.head.take()
    }

    fn advance(&mut self, txn: &mut Transaction<'_>) -> Result<(), DbError> {
        if self.rows.len() == 0 && !self.is_at_end {
            let rows = txn.query_portal(&self.portal, self.wanted)?;
            self.is_at_end = i32::try_from(rows.len()).unwrap_or(i32::MAX) < self.wanted;
            self.wanted = self.next_size(&rows);
            self.rows = rows.into_iter();
        }
        self.head = self.rows.next();
        let Some(row) = &self.head else {
            return Ok(());
        };
        let key: &str = row.get(0);
        if key < self.key.as_str() {
            // What is compared in a wrong order would seem to be missing.
            return Err(DbError::of_server(
                "XX002",
                &format!(
                    "an index of table {} is not in the order of its keys",
                    self.table.name
                ),
            )
            .with_hint("REINDEX the table"));
        }
        self.key.clear();
        self.key.push_str(key);
        Ok(())
    }

    /// More rows from time to time, but of large records fewer.
    fn next_size(&self, rows: &[Row]) -> i32 {
        let larger = self.wanted.saturating_mul(2).min(ROWS.1);
        if self.table.id != table::RECORD.info().id {
            return larger;
        }
        let bytes: usize = rows.iter().map(|row| row.get::<_, &str>(JSON).len()).sum();
        let fit = BYTES / (bytes / rows.len().max(1)).max(1);
        larger.min(i32::try_from(fit).unwrap_or(i32::MAX)).max(1)
    }
}

/// Where the columns of a record's row are.
pub(crate) const CID: usize = 2;
/// The account that it names.
pub(crate) const DID: usize = 3;
/// The record as JSON.
pub(crate) const JSON: usize = 4;
/// When it was indexed.
pub(crate) const INDEXED_AT: usize = 5;
