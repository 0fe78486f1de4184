//! `skyfill report`.

use arguments::ReportArgs;
use process::{Database, Ended, Failure};
use report::{Report, html};
use std::path::Path;

pub(crate) fn run(args: &ReportArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&args.database.target())?;
    let report = Report::read(&database)?;
    if args.json {
        observe::data!("{}", report.json());
        return Ok(Ended::Well);
    }
    let page = html::page(&report);
    if args.output == Path::new("-") {
        observe::data!("{page}");
        return Ok(Ended::Well);
    }
    report::write(&args.output, &page)?;
    observe::log!("the report is in {}", args.output.display());
    Ok(Ended::Well)
}
