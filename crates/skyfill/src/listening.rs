//! The dashboard beside a command: begun before the work, shown the database once that is open.

use crate::cli::AccessArgs;
use dashboard::{Dashboard, ListenError, Options, Origin, Token};
use process::{Database, Failure};
use std::net::SocketAddr;
use std::sync::OnceLock;

/// Variable that holds the token.
const TOKEN: &str = "SKYFILL_LISTEN_TOKEN";

static DASHBOARD: OnceLock<Dashboard> = OnceLock::new();

/// Serves the dashboard until the process ends, and prints its link.
pub(crate) fn start(
    address: SocketAddr,
    access: &AccessArgs,
    origin: Origin,
) -> Result<(), Failure> {
    let options = Options {
        address,
        token: token(access)?,
        names: access.listen_name.clone(),
        origin,
    };
    let dashboard = Dashboard::start(&options).map_err(|error| failure(&error))?;
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

fn token(access: &AccessArgs) -> Result<Option<Token>, Failure> {
    let (text, place) = match (&access.listen_token_file, std::env::var(TOKEN)) {
        (Some(path), _) => {
            let place = format!("--listen-token-file {}", path.display());
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::usage(format!("{place}: {error}")))?;
            (text, place)
        }
        (None, Ok(text)) if !text.is_empty() => (text, TOKEN.to_owned()),
        (None, Err(std::env::VarError::NotUnicode(_))) => (String::new(), TOKEN.to_owned()),
        (None, _) => return Ok(None),
    };
    let token = Token::parse(&text).map_err(|error| {
        Failure::usage(format!("{place}: {error}")).hint("make one with: openssl rand -hex 24")
    })?;
    Ok(Some(token))
}

fn failure(error: &ListenError) -> Failure {
    let message = error.to_string();
    match error {
        ListenError::NeedsToken(_) => Failure::usage(message).hint(
            "set SKYFILL_LISTEN_TOKEN or --listen-token-file, or listen at 127.0.0.1 and use an SSH tunnel",
        ),
        ListenError::Refused(..) => Failure::new(message)
            .hint("name another address or port with --listen; port 0 picks one that is free"),
        ListenError::NoThread(_) => Failure::new(message),
    }
}
