//! `skyfill db`: the private PostgreSQL as a service.

use arguments::{DataDirArgs, DbAction, DbArgs};
use process::{Ended, Failure, database};

pub(crate) fn run(args: &DbArgs) -> Result<Ended, Failure> {
    let start = |folder: &DataDirArgs| pgbox::start(&folder.data_dir).map_err(Failure::new);
    match &args.action {
        DbAction::Start(folder) => {
            let server = start(folder)?;
            for notice in server.notices() {
                observe::log!("note: {notice}");
            }
            let (pid, url) = (server.postmaster(), server.url());
            observe::log!("PostgreSQL is running as process {pid}: {url}");
            Ok(Ended::Well)
        }
        DbAction::Stop(folder) => {
            match pgbox::stop(&folder.data_dir).map_err(Failure::new)? {
                true => observe::log!("stopped"),
                false => observe::log!("it is not running"),
            }
            Ok(Ended::Well)
        }
        DbAction::Status(folder) => {
            let pid = pgbox::status(&folder.data_dir).map_err(Failure::new)?;
            match pid {
                Some(pid) => observe::data!("running as process {pid}"),
                None => observe::data!("not running"),
            }
            Ok(Ended::well_if(pid.is_some()))
        }
        DbAction::Url(folder) => {
            database::require_made(&folder.data_dir)?;
            observe::data!("{}", start(folder)?.url());
            Ok(Ended::Well)
        }
    }
}
