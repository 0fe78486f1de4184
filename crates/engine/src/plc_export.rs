//! The only reader of the PLC export: page after page, to the end.

use crate::documents::Directory;
use fetch::FetchError;
use fetch::retry::{self, Pauses, Policy};
use identity::export::Page;
use process::{Failure, Stop};
use tokio::runtime::Runtime;

/// Attempts at a page.
const ATTEMPTS: u32 = 6;

/// Reads the export from `cursor` on, and has each page stored. The last page may have no cursor.
/// False if it was stopped.
pub(crate) fn read(
    directory: &Directory,
    runtime: &Runtime,
    stop: &Stop,
    mut cursor: Option<String>,
    mut store: impl FnMut(&Page) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let export = directory.export()?;
    let plc = directory.export_url();
    let policy = Policy {
        attempts: ATTEMPTS,
        pauses: Pauses::HoweverLong,
    };
    loop {
        let got = retry::persist(
            policy,
            std::future::pending(),
            || export.page(cursor.as_deref()),
            |_, _| {},
        );
        let page = match runtime.block_on(retry::unless_stopped(stop.wait(), got)) {
            Ok(page) => page,
            Err(FetchError::Stopped) => return Ok(false),
            Err(error) => {
                return Err(Failure::new(format!("the export of {plc}: {error}"))
                    .hint("what was read is stored; run it again to continue"));
            }
        };
        store(&page)?;
        let Some(next) = page.cursor else {
            if page.bad_lines > 0 {
                return Err(Failure::new(format!(
                    "the export of {plc} is not a list of operations"
                )));
            }
            return Ok(true);
        };
        // The end: nothing but what the page before had.
        if cursor.as_deref() == Some(&next) {
            return Ok(true);
        }
        cursor = Some(next);
    }
}
