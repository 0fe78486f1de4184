//! The one reader of the PLC export: page after page, to its end.

use crate::documents::Directory;
use fetch::FetchError;
use fetch::retry::{self, Retry};
use identity::export::Page;
use process::{Failure, Stop};
use tokio::runtime::Runtime;

/// Attempts at a page.
const ATTEMPTS: u32 = 6;

/// Reads the export from `cursor` on, and has each page stored. The last page may have no cursor.
/// False if it was told to stop.
pub(crate) fn read(
    directory: &Directory,
    runtime: &Runtime,
    stop: &Stop,
    mut cursor: Option<String>,
    mut store: impl FnMut(&Page) -> Result<(), Failure>,
) -> Result<bool, Failure> {
    let export = directory.export()?;
    let plc = directory.export_url();
    let mut attempt = 0;
    loop {
        let got = runtime.block_on(async {
            tokio::select! {
                page = export.page(cursor.as_deref()) => page,
                () = stop.wait() => Err(FetchError::Stopped),
            }
        });
        let page = match got {
            Ok(page) => page,
            Err(FetchError::Stopped) => return Ok(false),
            Err(error) => {
                attempt += 1;
                let (Retry::After(wait) | Retry::AfterHost(wait) | Retry::NeverHost(wait)) =
                    retry::decide(&error, attempt, ATTEMPTS)
                else {
                    return Err(Failure::new(format!("the export of {plc}: {error}"))
                        .hint("what was read is kept; run it again to go on"));
                };
                runtime.block_on(async {
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.wait() => {}
                    }
                });
                continue;
            }
        };
        attempt = 0;
        store(&page)?;
        let Some(next) = page.cursor else {
            if page.bad_lines > 0 {
                return Err(Failure::new(format!(
                    "the export of {plc} is no list of operations"
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
