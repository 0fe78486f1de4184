//! `skyfill dashboard`.

use crate::{listening, signals};
use arguments::DashboardArgs;
use dashboard::Origin;
use observe::Workers;
use process::{Database, Ended, Failure};

pub(crate) fn run(args: &DashboardArgs) -> Result<Ended, Failure> {
    let database = Database::open_existing(&args.database.target())?;
    database.require_ledger(&mut *database.connect()?)?;
    database.prepare_ledger()?;
    let stop = signals::listen(Workers::default())?;
    listening::start(args.listen, &args.access, Origin::Ledger)?;
    listening::shows(&database);
    process::threads::start()?.block_on(stop.wait());
    Ok(Ended::Well)
}
