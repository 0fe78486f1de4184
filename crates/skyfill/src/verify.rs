//! `skyfill verify`.

use crate::cli::{RunArgs, VerifyArgs};
use crate::database::Database;
use crate::exit::{Ended, Failure};
use crate::signals::Stop;
use tokio::runtime::Runtime;

pub(crate) fn run(_args: &VerifyArgs) -> Result<Ended, Failure> {
    Ok(Ended::Well)
}

pub(crate) fn after_run(_: &RunArgs, _: &Database, _: &Runtime, _: &Stop) -> Result<Option<u64>, Failure> {
    Ok(Some(0))
}
