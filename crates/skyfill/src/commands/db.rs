//! `skyfill db`: the private PostgreSQL as a service.

use crate::cli::{DbAction, DbArgs};
use process::database;
use process::{Ended, Failure};

pub(crate) fn run(args: &DbArgs) -> Result<Ended, Failure> {
    match &args.action {
        DbAction::Start(folder) => {
            let server = pgbox::start(&folder.data_dir).map_err(Failure::new)?;
            for notice in server.notices() {
                observe::log!("note: {notice}");
            }
            observe::log!(
                "PostgreSQL is running as process {}: {}",
                server.postmaster(),
                server.url()
            );
            Ok(Ended::Well)
        }
        DbAction::Stop(folder) => {
            let stopped = pgbox::stop(&folder.data_dir).map_err(Failure::new)?;
            observe::log!(
                "{}",
                if stopped {
                    "stopped"
                } else {
                    "it is not running"
                }
            );
            Ok(Ended::Well)
        }
        DbAction::Status(folder) => match pgbox::status(&folder.data_dir).map_err(Failure::new)? {
            Some(pid) => {
                observe::data!("running as process {pid}");
                Ok(Ended::Well)
            }
            None => {
                observe::data!("not running");
                Ok(Ended::WithFailures)
            }
        },
        DbAction::Url(folder) => {
            database::require_made(&folder.data_dir)?;
            let server = pgbox::start(&folder.data_dir).map_err(Failure::new)?;
            observe::data!("{}", server.url());
            Ok(Ended::Well)
        }
    }
}
