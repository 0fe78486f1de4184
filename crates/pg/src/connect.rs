//! Making a connection.

use crate::{DbError, cancel};
use postgres::config::Host;
use postgres::{Client, Config, NoTls};
use std::sync::OnceLock;
use std::time::Duration;

/// A server that does not answer a connection attempt for so long is waited for as one that is
/// away.
const CONNECT: Duration = Duration::from_secs(15);
/// A connection over which nothing came for so long is probed,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// this often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// and given up after so many probes without an answer.
const KEEPALIVE_PROBES: u32 = 3;
/// Bytes that the peer's machine does not acknowledge for so long end the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// What every session of skyfill begins with: the settings that its statements rely on, whatever
/// the role, the database or the server have for defaults. A default of read-only transactions
/// stays: whoever set it means it. Timeouts are off, because a stage may take hours; `ALTER SYSTEM`
/// or a role cannot cut one short half-way.
///
/// Names are looked up in `pg_catalog` alone until a session says otherwise ([`search_path`]): in a
/// schema in which others may create things, a function or an operator of theirs could be taken for
/// one of PostgreSQL's.
pub const SESSION: &str = "SET search_path TO pg_catalog, pg_temp;
    SET standard_conforming_strings = on;
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'postgres';
    SET TimeZone = 'UTC';
    SET bytea_output = 'hex';
    SET extra_float_digits = 1;
    SET default_transaction_isolation = 'read committed';
    SET statement_timeout = 0;
    SET lock_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
    DO $$ BEGIN
      PERFORM set_config(name, '0', false) FROM pg_settings
      WHERE name IN ('idle_session_timeout', 'transaction_timeout') AND setting <> '0';
    END $$";

/// The statement that lets names be looked up in `schema` of the AppView, after `pg_catalog`.
#[must_use]
pub fn search_path(schema: &str) -> String {
    format!("SET search_path TO pg_catalog, \"{schema}\", pg_temp")
}

static PROCESS: OnceLock<String> = OnceLock::new();

/// Names this process in `pg_stat_activity`: `skyfill COMMAND`. The first name stays.
pub fn name_process(command: &str) {
    PROCESS.get_or_init(|| format!("skyfill {command}"));
}

/// Connects to the database of a URL. What the URL says of time limits, keepalives and names is
/// kept.
///
/// # Errors
/// See [`DbError`].
pub fn connect(url: &str) -> Result<Client, DbError> {
    let mut client = configured(url)?.connect(NoTls)?;
    cancel::remember(&client);
    client.batch_execute(SESSION)?;
    Ok(client)
}

fn configured(url: &str) -> Result<Config, DbError> {
    let mut config: Config = url.parse()?;
    if config.get_application_name().is_none() {
        config.application_name(PROCESS.get().map_or("skyfill", String::as_str));
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(UNACKNOWLEDGED);
    }
    if !url.contains("keepalives_idle") {
        config.keepalives_idle(KEEPALIVE_IDLE);
    }
    if config.get_keepalives_interval().is_none() {
        config.keepalives_interval(KEEPALIVE_INTERVAL);
    }
    if config.get_keepalives_retries().is_none() {
        config.keepalives_retries(KEEPALIVE_PROBES);
    }
    Ok(config)
}

/// Where a URL leads, without its secrets: user, hosts, ports and database, and nothing else of it.
#[must_use]
pub fn shown(url: &str) -> String {
    let Ok(config) = url.parse::<Config>() else {
        return "a database whose URL does not parse".to_owned();
    };
    let port_of = |at: usize| {
        let ports = config.get_ports();
        ports.get(at).or(ports.first()).copied().unwrap_or(5432)
    };
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", port_of(at)),
            #[cfg(unix)]
            Host::Unix(folder) => folder.display().to_string(),
        })
        .collect();
    let user = config.get_user().map(|user| format!("{user}@"));
    format!(
        "{}{}/{}",
        user.unwrap_or_default(),
        hosts.join(","),
        config.get_dbname().unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_url_says_is_kept_and_the_rest_notices_a_peer_that_vanished() {
        let config = configured("postgresql://u@h/d").unwrap();
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(config.get_tcp_user_timeout(), Some(&UNACKNOWLEDGED));
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT));
        let config = configured(
            "postgresql://u@h/d?keepalives_idle=7200&connect_timeout=3&tcp_user_timeout=9&application_name=mine",
        )
        .unwrap();
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7200));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(config.get_application_name(), Some("mine"));
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(shown("postgresql://u:hunter2@h:54/d"), "u@h:54/d");
        assert_eq!(shown("postgresql://u:hunter2@/d?host=/run"), "u@/run/d");
        assert_eq!(shown("postgresql://u:hunter2@a:1,b:2/d"), "u@a:1,b:2/d");
        for url in [
            "host=h password = hunter2 dbname=d",
            "host=h password='a hunter2'",
            "nonsense hunter2",
            "postgresql:///d?sslpassword=hunter2",
        ] {
            assert!(!shown(url).contains("hunter2"), "{}", shown(url));
        }
    }
}
