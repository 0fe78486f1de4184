//! Where the server is, how to log in, and what a new stream is to be.

use crate::error::NatsError;
use async_nats::ConnectOptions;
use std::fs;
use std::path::{Path, PathBuf};
use url::Url;

/// Longest file with a password or a token.
const MAX_SECRET: usize = 4096;

/// How to log in.
#[derive(Clone, Default)]
pub struct Login {
    /// File with a JWT and its key, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// Name of the user.
    pub user: Option<String>,
    /// File with the user's password.
    pub password: Option<PathBuf>,
    /// File with a token.
    pub token: Option<PathBuf>,
}

/// What a new stream is to be; of one that exists, what it must be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Servers that keep each message.
    pub replicas: Option<usize>,
    /// Size of the stream, in bytes, from which no part begins.
    pub max_bytes: Option<u64>,
    /// Shards.
    pub shards: Option<u32>,
}

/// Where the server is, and how to log in.
#[derive(Clone)]
pub struct Settings {
    /// The servers, without what logs in.
    servers: Vec<Url>,
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
    credentials: Option<PathBuf>,
    authority: Option<PathBuf>,
    /// Name of the stream.
    pub(crate) stream: String,
}

impl Settings {
    /// Reads URLs, separated by commas, and the files that they need.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(
        urls: &str,
        login: &Login,
        authority: Option<&Path>,
        stream: &str,
    ) -> Result<Self, NatsError> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if stream.is_empty() || stream.len() > 64 || !stream.chars().all(is_name) {
            return Err(NatsError::Settings(format!(
                "{stream:?} cannot be the name of a stream: use up to 64 letters, digits, - and _"
            )));
        }
        let mut settings = Self {
            servers: Vec::new(),
            user: login.user.clone(),
            password: login.password.as_deref().map(secret).transpose()?,
            token: login.token.as_deref().map(secret).transpose()?,
            credentials: login.credentials.clone(),
            authority: authority.map(Path::to_owned),
            stream: stream.to_owned(),
        };
        for text in urls.split(',') {
            settings.add_server(text.trim())?;
        }
        for path in [&settings.credentials, &settings.authority]
            .into_iter()
            .flatten()
        {
            if let Err(error) = fs::File::open(path) {
                return Err(NatsError::Settings(format!("{}: {error}", path.display())));
            }
        }
        Ok(settings)
    }

    fn add_server(&mut self, text: &str) -> Result<(), NatsError> {
        // The text may hold a password: it is not repeated.
        let wrong = |why: &str| {
            Err(NatsError::Settings(format!(
                "not the URL of a NATS server: {why}"
            )))
        };
        let Ok(mut url) = Url::parse(text) else {
            return wrong("write nats://HOST:PORT or tls://HOST:PORT");
        };
        if !matches!(url.scheme(), "nats" | "tls") {
            return wrong(&format!("{}:// is not nats:// or tls://", url.scheme()));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return wrong("it has no host");
        }
        let decoded = |text: &str| percent_decoded(text).unwrap_or_else(|| text.to_owned());
        let user = Some(decoded(url.username())).filter(|user| !user.is_empty());
        let password = url.password().map(decoded);
        match (user, password) {
            (Some(user), Some(password)) => {
                (self.user, self.password) = (Some(user), Some(password));
            }
            // Others take it for a token, but a token would be shown with the command line.
            (Some(_), None) if self.password.is_none() => {
                return wrong(
                    "it has a user and no password; give the password with --nats-password-file, \
                     or a token with --nats-token-file",
                );
            }
            (Some(user), None) => self.user = Some(user),
            _ => {}
        }
        if url.set_username("").is_err() || url.set_password(None).is_err() {
            return wrong("what logs in cannot be read");
        }
        url.set_path("");
        self.servers.push(url);
        Ok(())
    }

    /// The name of the stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The same servers with another stream.
    #[must_use]
    pub fn with_stream(mut self, stream: String) -> Self {
        self.stream = stream;
        self
    }

    /// The servers, for people: without what logs in.
    #[must_use]
    pub fn shown(&self) -> String {
        let shown: Vec<&str> = self.servers.iter().map(Url::as_str).collect();
        shown.join(",")
    }

    /// Whether a URL asks for TLS.
    fn requires_tls(&self) -> bool {
        self.authority.is_some() || self.servers.iter().any(|url| url.scheme() == "tls")
    }

    /// The addresses for the client.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.servers
            .iter()
            .map(|url| url.as_str().to_owned())
            .collect()
    }

    /// The options for the client.
    pub(crate) fn options(&self) -> Result<ConnectOptions, NatsError> {
        let mut options = ConnectOptions::new().name("skyfill");
        if let Some(path) = &self.credentials {
            let unreadable = |error| NatsError::Settings(format!("{}: {error}", path.display()));
            let text = fs::read_to_string(path).map_err(unreadable)?;
            options = options.credentials(&text).map_err(unreadable)?;
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        if let Some(user) = &self.user {
            let password = self.password.clone().unwrap_or_default();
            options = options.user_and_password(user.clone(), password);
        }
        if let Some(path) = &self.authority {
            options = options.add_root_certificates(path.clone());
        }
        Ok(options.require_tls(self.requires_tls()))
    }
}

/// The first line of a small file.
fn secret(path: &Path) -> Result<String, NatsError> {
    let shown = path.display();
    let text = fs::read_to_string(path)
        .map_err(|error| NatsError::Settings(format!("{shown}: {error}")))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() || line.len() > MAX_SECRET {
        return Err(NatsError::Settings(format!(
            "{shown}: its first line is empty or too long"
        )));
    }
    Ok(line.to_owned())
}

/// Text whose `%XX` stand for bytes.
fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(urls: &str) -> Result<Settings, NatsError> {
        Settings::new(urls, &Login::default(), None, "skyfill")
    }

    #[test]
    fn what_logs_in_is_read_and_not_shown() {
        let settings = of("nats://me:p%40ss@a.test:4222, nats://b.test").unwrap();
        assert_eq!(settings.shown(), "nats://a.test:4222,nats://b.test");
        assert_eq!(settings.user.as_deref(), Some("me"));
        assert_eq!(settings.password.as_deref(), Some("p@ss"));
        assert!(of("tls://a.test").unwrap().requires_tls());
        for bad in [
            "",
            "a.test:4222",
            "https://me:secret@a.test",
            "nats://",
            "nats://secret@a",
        ] {
            let error = of(bad).err().unwrap().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(Settings::new("nats://a", &Login::default(), None, "a.b").is_err());
    }
}
