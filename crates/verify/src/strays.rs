//! Rows that belong to no record, and records of accounts that were never loaded.

use crate::finding::{Finding, What};
use appview::table;
use postgres::{Client, Error};
use rows::Collection;

/// Strays that are named, of each table.
const NAMED: i64 = 1000;

/// Looks for them.
pub(crate) fn find(client: &mut Client, schema: &str, report: &mut dyn FnMut(Finding)) -> Result<(), Error> {
    for info in table::ALL
        .iter()
        .filter(|info| info.id != table::RECORD.info().id)
    {
        let mut condition = "true".to_owned();
        if info.id == table::NOTIFICATION.info().id {
            condition = "x.reason <> 'unverified'".to_owned();
        }
        let own = Collection::ALL
            .iter()
            .find(|collection| load::own_table(**collection).is_some_and(|own| own.id == info.id));
        let mut other = String::new();
        if let Some(own) = own {
            other = format!(" OR split_part(x.\"{}\", '/', 4) <> '{}'", info.uri, own.nsid());
        }
        let sql = format!(
            "SELECT DISTINCT x.\"{0}\", split_part(x.\"{0}\", '/', 3) FROM \"{1}\" x
             WHERE (NOT EXISTS (SELECT FROM record r WHERE r.uri = x.\"{0}\"){other}) AND {condition} LIMIT {NAMED}",
            info.uri, info.name
        );
        for row in client.query(&sql, &[])? {
            report(Finding {
                did: row.get(1),
                what: What::Stray {
                    table: info.name,
                    uri: row.get(0),
                },
            });
        }
    }
    let unknown = client.query(
        "SELECT r.did, count(*) FROM record r
         WHERE NOT EXISTS (SELECT FROM skyfill.repo l WHERE l.schema_name = $1 AND l.did = r.did AND l.rev IS NOT NULL)
         GROUP BY r.did ORDER BY r.did LIMIT 1000",
        &[&schema],
    )?;
    for row in unknown {
        report(Finding {
            did: row.get(0),
            what: What::Unknown {
                records: u64::try_from(row.get::<_, i64>(1)).unwrap_or(0),
            },
        });
    }
    Ok(())
}
