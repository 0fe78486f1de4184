//! Lists the accounts of the PLC export, on the hosts that their documents name.

use crate::discovery::context::{Discovery, OpenPass};
use crate::{documents, plc_export};
use fetch::hosts::host_of;
use identity::export::{Latest, Page};
use ledger::identity::{add_documents, cursor, set_cursor};
use ledger::listing::Line;
use ledger::states::Inactive;
use process::Failure;

/// Adds the accounts of the export, from where it was read to before. False if it was stopped.
pub(crate) fn list_accounts(
    discovery: &Discovery<'_>,
    open: &mut OpenPass<'_>,
) -> Result<bool, Failure> {
    let (schema, directory) = (&discovery.database.schema, discovery.directory);
    let plc = directory.export_url();
    let name = format!("discovery by the export of {plc} for {schema}");
    let at = open.client.run(|client| cursor(client, &name))?;
    let store = |page: &Page| {
        open.add_bad_lines(plc, page.bad_lines);
        let Some(next) = &page.cursor else {
            return Ok(());
        };
        let notes = documents::notes_of_export(&page.latest);
        let lines: Vec<Line> = page.latest.iter().filter_map(listed).collect();
        open.store(schema, &lines, |txn| {
            add_documents(txn, schema, &notes)?;
            set_cursor(txn, &name, next)
        })?;
        Ok(())
    };
    plc_export::read(directory, discovery.runtime, discovery.stop, at, store)
}

/// An account of the export as a line of a list.
fn listed((did, latest): (&String, &Latest)) -> Option<Line> {
    let did = did.clone();
    match latest {
        Latest::Document(document) => Some(Line {
            did,
            pds: Some((document.pds.clone(), host_of(&document.pds))),
            is_settled: true,
            ..Line::default()
        }),
        Latest::Tombstone => Some(Line {
            did,
            status: Some(Inactive::Deleted),
            ..Line::default()
        }),
        Latest::Useless(_) => None,
    }
}
