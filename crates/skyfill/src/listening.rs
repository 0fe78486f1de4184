//! The dashboard beside a command: begun before the work, shown the database once that is open.

use arguments::AccessArgs;
use dashboard::{Dashboard, Options, Origin, Token};
use process::{Database, Failure};
use std::net::SocketAddr;
use std::sync::OnceLock;

static DASHBOARD: OnceLock<Dashboard> = OnceLock::new();

/// Serves the dashboard until the process ends, and prints its link.
pub(crate) fn start(
    address: SocketAddr,
    access: &AccessArgs,
    origin: Origin,
) -> Result<(), Failure> {
    let options = Options {
        address,
        token: Token::find(access.listen_token_file.as_deref())?,
        names: access.listen_name.clone(),
        origin,
    };
    let dashboard = Dashboard::start(&options)?;
    observe::log!("dashboard: {}", dashboard.link());
    // Once per process.
    drop(DASHBOARD.set(dashboard));
    Ok(())
}

/// Lets the dashboard, if there is one, show this database. Without its threads it shows less.
pub(crate) fn shows(database: &Database) {
    let Some(dashboard) = DASHBOARD.get() else {
        return;
    };
    if let Err(error) = dashboard.shows(&database.url, &database.schema) {
        tracing::warn!("the dashboard does not show the database: {error}");
    }
}
