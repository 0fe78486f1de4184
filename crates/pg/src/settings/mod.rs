//! The settings of a connection, as libpq gathers them: from the connection string, the service
//! that it names, the environment, the password file, and defaults. The first that has a setting
//! counts, in this order.

mod keywords;
mod passfile;
mod service;
mod string;

use crate::DbError;
use keywords::{KEYWORDS, Use};
use passfile::{Found, Whom};
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The folders in which servers have their unix sockets by default: Debian's and PostgreSQL's own.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];
/// Where the system's service file is, by default: Debian's and PostgreSQL's own places.
const SYSTEM_FOLDERS: [&str; 3] = [
    "/etc/postgresql-common",
    "/etc/sysconfig/pgsql",
    "/usr/local/pgsql/etc",
];
/// PostgreSQL's port.
const PORT: u16 = 5432;

/// How much of TLS a connection insists on (manual, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server refuses a connection without it.
    Allow,
    /// TLS if the server has it.
    Prefer,
    /// TLS. Whose server it is, is only checked if there is a file of root certificates.
    Require,
    /// TLS with a server whose certificate a known authority signed.
    VerifyCa,
    /// The same, and the certificate is for the host that was asked for.
    VerifyFull,
}

impl SslMode {
    /// As a connection string has it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// A server of a connection string; there may be several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name, its address, or the folder of its unix socket.
    pub host: String,
    /// The address to connect to instead of looking the name up.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Whether it is reached by a unix socket.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.address.is_none() && self.host.starts_with(['/', '@'])
    }

    /// Whether the way to it leaves this machine, as far as its name tells.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        let address = self.address.or_else(|| self.host.parse().ok());
        match address {
            Some(address) => !address.is_loopback(),
            None => !self.is_socket() && self.host != "localhost",
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_socket() {
            f.write_str(&self.host)
        } else if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What was gathered for a connection.
#[derive(Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
    password_from: &'static str,
    home: Option<PathBuf>,
}

/// Where settings come from beside the connection string.
struct Surroundings<'s> {
    variable: &'s dyn Fn(&str) -> Option<String>,
    home: Option<PathBuf>,
}

impl Settings {
    /// Gathers the settings of a connection string.
    ///
    /// # Errors
    /// The string, a service file or a value is not as libpq would have it, or asks for what
    /// skyfill cannot do.
    pub fn of(text: &str) -> Result<Self, DbError> {
        Self::gather(
            text,
            &Surroundings {
                variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
                home: std::env::home_dir(),
            },
        )
    }

    fn gather(text: &str, around: &Surroundings<'_>) -> Result<Self, DbError> {
        let mut this = Self {
            values: BTreeMap::new(),
            password_from: "the connection string",
            home: around.home.clone(),
        };
        let refused = |why: String| DbError::other(format!("the connection string: {why}"));
        // In the string itself, the last one of a name counts.
        for (name, value) in string::parse(text).map_err(refused)?.into_iter().rev() {
            let Some(keyword) = keywords::of(&name) else {
                return Err(refused(format!("there is no setting {name:?}")));
            };
            this.values.entry(keyword.name).or_insert(value);
        }
        this.add_service(around)?;
        let had_password = this.get("password").is_some();
        for keyword in KEYWORDS {
            let value = keyword.variable.and_then(around.variable);
            if let Some(value) = value {
                this.values.entry(keyword.name).or_insert(value);
            }
        }
        if !had_password {
            this.password_from = "PGPASSWORD";
        }
        this.check()?;
        Ok(this)
    }

    fn add_service(&mut self, around: &Surroundings<'_>) -> Result<(), DbError> {
        let given = self.get("service").map(str::to_owned);
        let Some(name) = given.or_else(|| (around.variable)("PGSERVICE")) else {
            return Ok(());
        };
        let of_user = (around.variable)("PGSERVICEFILE")
            .map(PathBuf::from)
            .or_else(|| Some(around.home.as_ref()?.join(".pg_service.conf")));
        let system: Vec<PathBuf> = match (around.variable)("PGSYSCONFDIR") {
            Some(folder) => vec![folder.into()],
            None => SYSTEM_FOLDERS.iter().map(PathBuf::from).collect(),
        };
        let system: Vec<PathBuf> = system
            .iter()
            .map(|folder| folder.join("pg_service.conf"))
            .collect();
        for (key, value) in
            service::read(&name, of_user.as_ref(), &system).map_err(DbError::other)?
        {
            if let Some(keyword) = keywords::of(&key) {
                self.values.entry(keyword.name).or_insert(value);
            }
        }
        Ok(())
    }

    /// Refuses what would not be as asked for.
    fn check(&self) -> Result<(), DbError> {
        for keyword in KEYWORDS {
            let Some(value) = self.values.get(keyword.name) else {
                continue;
            };
            if let Use::Only(values) = keyword.used
                && !values.contains(&value.as_str())
            {
                let name = keyword.name;
                return Err(DbError::other(format!("{name}={value} is not supported"))
                    .with_hint(format!("leave {name} out of the connection's settings")));
            }
        }
        self.servers()?;
        self.ssl_mode().map(drop)
    }

    /// A setting that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// A setting that is a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, DbError> {
        let Some(text) = self.get(name) else {
            return Ok(None);
        };
        // libpq takes -1 and 0 for "as the system has it".
        match text.trim().parse::<i64>() {
            Ok(number) => Ok(u32::try_from(number).ok()),
            Err(_) => Err(DbError::other(format!("{name}={text} is not a number"))),
        }
    }

    /// The role to connect as: by default, the user of the operating system.
    #[must_use]
    pub fn user(&self) -> String {
        match self.get("user") {
            Some(user) => user.to_owned(),
            None => whoami::username().unwrap_or_default(),
        }
    }

    /// The database: by default, the one that has the role's name.
    #[must_use]
    pub fn database(&self) -> String {
        match self.get("dbname") {
            Some(name) => name.to_owned(),
            None => self.user(),
        }
    }

    /// Where the password comes from, if it is neither from a file nor asked for.
    pub(crate) fn password_from(&self) -> &'static str {
        self.password_from
    }

    /// How much of TLS is insisted on.
    ///
    /// # Errors
    /// There is no such mode.
    pub fn ssl_mode(&self) -> Result<SslMode, DbError> {
        let of_system = self.get("sslrootcert") == Some("system");
        let mode =
            match self.get("sslmode") {
                None if of_system => SslMode::VerifyFull,
                None | Some("prefer") => SslMode::Prefer,
                Some("disable") => SslMode::Disable,
                Some("allow") => SslMode::Allow,
                Some("require") => SslMode::Require,
                Some("verify-ca") => SslMode::VerifyCa,
                Some("verify-full") => SslMode::VerifyFull,
                Some(other) => {
                    return Err(DbError::other(format!("there is no sslmode {other:?}")).with_hint(
                    "it is one of disable, allow, prefer, require, verify-ca and verify-full",
                ));
                }
            };
        if of_system && mode != SslMode::VerifyFull {
            return Err(DbError::other(
                "sslrootcert=system trusts every public authority, so it needs sslmode=verify-full",
            )
            .with_hint(
                "set sslmode=verify-full, or name the file of one authority in sslrootcert",
            ));
        }
        Ok(mode)
    }

    /// The servers, in the order in which they are tried.
    ///
    /// # Errors
    /// Their ports or addresses are not as many as their names, or are none.
    pub fn servers(&self) -> Result<Vec<Server>, DbError> {
        let list = |name: &str| -> Vec<&str> {
            let split = |value| str::split(value, ',').map(str::trim).collect();
            self.get(name).map(split).unwrap_or_default()
        };
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = hosts.len().max(addresses.len()).max(1);
        if !addresses.is_empty() && !hosts.is_empty() && hosts.len() != addresses.len() {
            return Err(DbError::other(
                "host and hostaddr name different numbers of servers",
            ));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(DbError::other(
                "port and host have different numbers of entries",
            ));
        }
        (0..count)
            .map(|at| {
                let port = match ports.get(at).or(ports.first()) {
                    None | Some(&"") => PORT,
                    Some(text) => text
                        .parse()
                        .ok()
                        .filter(|port| *port != 0)
                        .ok_or_else(|| DbError::other(format!("{text:?} is not a port")))?,
                };
                let address: Option<IpAddr> = match addresses.get(at) {
                    None | Some(&"") => None,
                    Some(text) => Some(text.parse().map_err(|_| {
                        DbError::other(format!("hostaddr {text:?} is not an address"))
                    })?),
                };
                let host = match (hosts.get(at), address) {
                    (None | Some(&""), Some(address)) => address.to_string(),
                    (None | Some(&""), None) => default_host(port),
                    (Some(host), _) => (*host).to_owned(),
                };
                Ok(Server {
                    host,
                    address,
                    port,
                })
            })
            .collect()
    }

    /// The password for a server, and what an error about it should add.
    pub(crate) fn password(&self, server: &Server) -> Password {
        if let Some(password) = self.get("password") {
            return Password {
                text: Some(password.to_owned()),
                note: format!("the password came from {}", self.password_from()),
            };
        }
        let file = match self.get("passfile") {
            Some(path) => Some(PathBuf::from(path)),
            None => self.home.as_ref().map(|home| home.join(".pgpass")),
        };
        let none = "give it in PGPASSWORD, in ~/.pgpass or in the connection string".to_owned();
        let Some(file) = file else {
            return Password {
                text: None,
                note: none,
            };
        };
        let is_default = SOCKET_FOLDERS.contains(&server.host.as_str());
        let (database, user) = (self.database(), self.user());
        let found = passfile::look_up(
            &file,
            Whom {
                host: if is_default {
                    "localhost"
                } else {
                    &server.host
                },
                port: server.port,
                database: &database,
                user: &user,
            },
        );
        match found {
            Found::Password(text) => Password {
                text: Some(text),
                note: format!("the password came from {}", file.display()),
            },
            Found::Nothing => Password {
                text: None,
                note: none,
            },
            Found::Refused(why) => Password {
                text: None,
                note: why,
            },
        }
    }

    /// A file in the user's `.postgresql`, if it is there.
    pub(crate) fn default_file(&self, name: &str) -> Option<PathBuf> {
        let path = self.home.as_ref()?.join(".postgresql").join(name);
        Path::exists(&path).then_some(path)
    }
}

/// A password, if there is one, and what an error about it should add.
pub(crate) struct Password {
    pub(crate) text: Option<String>,
    pub(crate) note: String,
}

/// Where a server is that no setting names: a unix socket if there is one, or else this machine.
fn default_host(port: u16) -> String {
    let socket = format!(".s.PGSQL.{port}");
    SOCKET_FOLDERS
        .into_iter()
        .find(|folder| Path::new(folder).join(&socket).exists())
        .unwrap_or("localhost")
        .to_owned()
}

impl fmt::Display for Settings {
    /// Where they lead, without secrets: user, hosts, ports and database.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.get("user") {
            write!(f, "{user}@")?;
        }
        for (at, server) in self.servers().unwrap_or_default().iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{server}")?;
        }
        write!(f, "/{}", self.database())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Settings({self})")
    }
}

#[cfg(test)]
mod tests;
