//! Making a connection.

use crate::settings::{Server, Settings, SslMode};
use crate::tls_error::{is_cut, rustls_error};
use crate::{DbError, DbErrorKind, cancel, tls};
use postgres::config::{ChannelBinding, SslNegotiation, TargetSessionAttrs};
use postgres::error::SqlState;
use postgres::{Client, Config, NoTls};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::Duration;
use tokio_postgres_rustls::MakeRustlsConnect;

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
/// How often TLS is begun again that the server cut short, and the pause before the next try.
const CUTS: u32 = 5;
const CUT_PAUSE: Duration = Duration::from_millis(20);

/// What every session of skyfill begins with: the settings that its statements rely on, whatever
/// the role, the database or the server have for defaults. A default of read-only transactions
/// stays: whoever set it means it. Timeouts are off, because a stage may take hours; `ALTER SYSTEM`
/// or a role cannot cut one short half-way.
///
/// Names are looked up in `pg_catalog` alone until a session says otherwise ([`search_path`]): in a
/// schema in which others may create things, a function or an operator of theirs could be taken for
/// one of PostgreSQL's.
pub const SESSION: &str = "SET statement_timeout = 0;
    SET search_path TO pg_catalog, pg_temp;
    SET client_encoding = 'UTF8';
    SET standard_conforming_strings = on;
    SET DateStyle = 'ISO, YMD';
    SET IntervalStyle = 'postgres';
    SET TimeZone = 'UTC';
    SET bytea_output = 'hex';
    SET extra_float_digits = 1;
    SET default_transaction_isolation = 'read committed';
    SET lock_timeout = 0;
    SET idle_in_transaction_session_timeout = 0;
    SELECT set_config(name, '0', false) FROM (VALUES ('idle_session_timeout'), ('transaction_timeout')) s (name)
    WHERE current_setting(name, true) <> '0'";

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

/// Makes a connection to the database of a connection string, with what libpq would add to it: see
/// [`Settings`]. What it says of time limits, keepalives and names is kept.
pub(crate) fn anew(text: &str) -> Result<Client, DbError> {
    let settings = Settings::of(text)?;
    let mode = settings.ssl_mode()?;
    let mut servers = settings.servers()?;
    if settings.get("load_balance_hosts") == Some("random") {
        let random = RandomState::new().hash_one(std::process::id());
        let count = u64::try_from(servers.len()).unwrap_or(1);
        servers.rotate_left(usize::try_from(random % count).unwrap_or(0));
    }
    let with_tls = mode != SslMode::Disable && servers.iter().any(|server| !server.is_socket());
    let tls = with_tls.then(|| tls::connector(&settings)).transpose()?;
    let mut refused = DbError::other("the connection string names no server");
    for server in &servers {
        match connect_to(&settings, server, mode, tls.as_ref()) {
            Ok(mut client) => {
                begin_session(&mut client)?;
                return Ok(client);
            }
            Err((error, ends)) => {
                refused = error;
                if ends {
                    break;
                }
            }
        }
    }
    Err(refused)
}

/// Makes the settings. Until then a default timeout holds, which may cut short the very statement
/// that ends it.
pub(crate) fn begin_session(client: &mut Client) -> Result<(), DbError> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        match client.batch_execute(SESSION) {
            Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => {}
            outcome => return Ok(outcome?),
        }
    }
    Ok(client.batch_execute(SESSION)?)
}

/// A try to connect to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Try {
    Plain,
    TlsIfThere,
    Tls,
}

/// Connects to one server, with and without TLS as the mode has it. An error says whether it ends
/// the search: a server that refuses this user is the right one.
fn connect_to(
    settings: &Settings,
    server: &Server,
    mode: SslMode,
    tls: Option<&MakeRustlsConnect>,
) -> Result<Client, (DbError, bool)> {
    let password = settings.password(server);
    let mut config = configured(settings, server).map_err(|error| (error, true))?;
    if let Some(text) = &password.text {
        config.password(text);
    }
    let tries: &[Try] = match mode {
        _ if server.is_socket() => &[Try::Plain],
        SslMode::Disable => &[Try::Plain],
        SslMode::Allow => &[Try::Plain, Try::Tls],
        SslMode::Prefer => &[Try::TlsIfThere, Try::Plain],
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Try::Tls],
    };
    let mut refused = None;
    for attempt in tries {
        let connected = match (attempt, tls) {
            (Try::Plain, _) | (_, None) => {
                config.ssl_mode(postgres::config::SslMode::Disable);
                config
                    .connect(NoTls)
                    .inspect(|client| cancel::remember(client, None))
            }
            (Try::TlsIfThere | Try::Tls, Some(tls)) => {
                config.ssl_mode(if *attempt == Try::Tls {
                    postgres::config::SslMode::Require
                } else {
                    postgres::config::SslMode::Prefer
                });
                let connected = connect_encrypted(&config, tls);
                connected.inspect(|client| cancel::remember(client, Some(tls)))
            }
        };
        match connected {
            Ok(client) => return Ok(client),
            Err(error) => {
                let may_differ = rustls_error(&error).is_some()
                    || error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
                refused.get_or_insert(error);
                if !may_differ {
                    break;
                }
            }
        }
    }
    match refused {
        Some(error) => Err(advised(error, settings, server, &password.note)),
        None => Err((DbError::lost("not connected"), true)),
    }
}

/// Connects with TLS. A server that does not take this client's certificate says so and closes the
/// connection, perhaps while this side still writes: then the write fails, and what the server said
/// is lost. Another try is likely to read it; without it, the refusal would look like a server that
/// is away, which is waited for.
fn connect_encrypted(config: &Config, tls: &MakeRustlsConnect) -> Result<Client, postgres::Error> {
    for _ in 1..CUTS {
        match config.connect(tls.clone()) {
            Err(error) if is_cut(&error) => sleep(CUT_PAUSE),
            outcome => return outcome,
        }
    }
    config.connect(tls.clone())
}

/// An error of connecting with its next step, and whether other servers are worth a try after it.
fn advised(
    error: postgres::Error,
    settings: &Settings,
    server: &Server,
    password: &str,
) -> (DbError, bool) {
    if let Some(tls) = rustls_error(&error) {
        let (message, hint) = tls::explain(tls, server, settings);
        return (DbError::other(message).with_hint(hint), false);
    }
    let code = error.code().cloned();
    // The driver tells of it in words only.
    let lacks_password = std::error::Error::source(&error)
        .is_some_and(|source| source.to_string() == "password missing");
    let is_cut = is_cut(&error);
    let error = DbError::from(error);
    let Some(code) = code else {
        return if lacks_password {
            let message = format!("{server} asks for a password, and there is none");
            (DbError::other(message).with_hint(password), true)
        } else if error.kind == DbErrorKind::Other {
            // The server was reached: what it has is not what the settings insist on.
            let message = format!("{server}: {}", error.message);
            let hint =
                "set ssl = on on the server, or sslmode=prefer to do without where it has none";
            (DbError::other(message).with_hint(hint), false)
        } else if is_cut {
            let hint = "the server closes the connection as it begins: its log says why";
            (error.with_hint(hint), false)
        } else {
            (error, false)
        };
    };
    let hint = match code {
        SqlState::INVALID_PASSWORD => password.to_owned(),
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION => format!(
            "let {} in from this machine in the server's pg_hba.conf (a line that begins with hostssl needs sslmode=require)",
            settings.user()
        ),
        SqlState::INVALID_CATALOG_NAME => {
            let name = settings.database();
            format!(
                "make it: CREATE DATABASE \"{name}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'"
            )
        }
        SqlState::TOO_MANY_CONNECTIONS => {
            "raise max_connections on the server, or give skyfill fewer connections".to_owned()
        }
        _ => return (error, code != SqlState::CANNOT_CONNECT_NOW),
    };
    (error.with_hint(hint), true)
}

/// What the driver is told.
fn configured(settings: &Settings, server: &Server) -> Result<Config, DbError> {
    let seconds = |name: &str| -> Result<Option<Duration>, DbError> {
        let number = settings.number(name)?.filter(|seconds| *seconds > 0);
        Ok(number.map(|seconds| Duration::from_secs(seconds.into())))
    };
    let mut config = Config::new();
    config
        .user(&settings.user())
        .dbname(&settings.database())
        .host(&server.host)
        .port(server.port)
        .application_name(
            settings
                .get("application_name")
                .or(PROCESS.get().map(String::as_str))
                .or(settings.get("fallback_application_name"))
                .unwrap_or("skyfill"),
        )
        .connect_timeout(seconds("connect_timeout")?.unwrap_or(CONNECT))
        .keepalives(settings.get("keepalives") != Some("0"))
        .keepalives_idle(seconds("keepalives_idle")?.unwrap_or(KEEPALIVE_IDLE))
        .keepalives_interval(seconds("keepalives_interval")?.unwrap_or(KEEPALIVE_INTERVAL))
        .keepalives_retries(
            settings
                .number("keepalives_count")?
                .unwrap_or(KEEPALIVE_PROBES),
        );
    // In milliseconds, as libpq has it.
    let unacknowledged = settings.number("tcp_user_timeout")?;
    config.tcp_user_timeout(unacknowledged.map_or(UNACKNOWLEDGED, |millis| {
        Duration::from_millis(millis.into())
    }));
    if let Some(address) = server.address {
        config.hostaddr(address);
    }
    if let Some(options) = settings.get("options") {
        config.options(options);
    }
    let unknown =
        |name: &str, value: &str| DbError::other(format!("{name}={value} is not supported"));
    config.channel_binding(match settings.get("channel_binding") {
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("disable") => ChannelBinding::Disable,
        Some("require") => ChannelBinding::Require,
        Some(other) => return Err(unknown("channel_binding", other)),
    });
    config.ssl_negotiation(match settings.get("sslnegotiation") {
        None | Some("postgres") => SslNegotiation::Postgres,
        Some("direct") => SslNegotiation::Direct,
        Some(other) => return Err(unknown("sslnegotiation", other)),
    });
    config.target_session_attrs(match settings.get("target_session_attrs") {
        None | Some("any") => TargetSessionAttrs::Any,
        // What skyfill writes needs a primary server that takes writes.
        Some("read-write" | "primary") => TargetSessionAttrs::ReadWrite,
        Some("read-only") => TargetSessionAttrs::ReadOnly,
        Some(other) => return Err(unknown("target_session_attrs", other)),
    });
    Ok(config)
}

/// Where a connection string leads, without its secrets: user, hosts, ports and database, and
/// nothing else of it.
#[must_use]
pub fn shown(text: &str) -> String {
    Settings::of(text).map_or_else(
        |_| "a database whose connection string does not parse".to_owned(),
        |settings| settings.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Config {
        let settings = Settings::of(text).unwrap();
        configured(&settings, &settings.servers().unwrap()[0]).unwrap()
    }

    #[test]
    fn what_the_string_says_is_kept_and_the_rest_notices_a_peer_that_vanished() {
        let config = of("postgresql://u@h/d");
        assert_eq!(config.get_keepalives_idle(), KEEPALIVE_IDLE);
        assert_eq!(config.get_tcp_user_timeout(), Some(&UNACKNOWLEDGED));
        assert_eq!(config.get_connect_timeout(), Some(&CONNECT));
        let config = of(
            "postgresql://u@h/d?keepalives_idle=7200&connect_timeout=3&tcp_user_timeout=9000&application_name=mine&keepalives_count=5",
        );
        assert_eq!(config.get_keepalives_idle(), Duration::from_secs(7200));
        assert_eq!(config.get_keepalives_retries(), Some(5));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!(config.get_tcp_user_timeout(), Some(&Duration::from_secs(9)));
        assert_eq!(config.get_application_name(), Some("mine"));
    }

    #[test]
    fn no_password_is_shown() {
        assert_eq!(shown("postgresql://u:hunter2@h:54/d"), "u@h:54/d");
        assert_eq!(shown("postgresql://u:hunter2@/d?host=/run"), "u@/run/d");
        assert_eq!(shown("postgresql://u:hunter2@a:1,b:2/d"), "u@a:1,b:2/d");
        for text in [
            "host=h password = hunter2 dbname=d",
            "host=h password='a hunter2'",
            "nonsense hunter2",
            "postgresql:///d?sslpassword=hunter2",
        ] {
            assert!(!shown(text).contains("hunter2"), "{}", shown(text));
        }
    }
}
