//! Fetches DID documents one by one: did:plc from a PLC directory, did:web from its own host.

use crate::document::{self, Document, DocumentError};
use crate::domains::Domains;
use fetch::guard::Private;
use fetch::hosts::{Hosts, host_of};
use fetch::retry::{self, Pauses, Policy, Retry};
use fetch::{Client, FetchError, Limits, OneServer, Redirects, SmallRequest};
use std::time::{Duration, Instant};

/// The result of looking for a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The document, which is good.
    Document(Document),
    /// There is none: the DID never existed, or no longer does.
    Gone,
    /// The document is unusable.
    Useless(DocumentError),
    /// The document could not be fetched, and must be retried later.
    Unreachable(String),
    /// The DID is of a method that cannot be resolved.
    Unsupported,
}

/// Which servers to ask, and how fast.
#[derive(Clone, Debug)]
pub struct Settings {
    /// URL of the PLC directory.
    pub plc_url: String,
    /// The pace of the directory, which all who ask it share.
    pub plc_pace: OneServer,
    /// Server to send requests for did:web documents to instead of their own hosts, with the host's
    /// name in the `Host` header.
    pub web_server: Option<String>,
    /// Whether requests to private networks are allowed. Requests to the directory and to
    /// `web_server`, which the operator names, always are.
    pub allow_private_hosts: bool,
    /// Maximum time of a request.
    pub timeout: Duration,
    /// Maximum attempts per document.
    pub attempts: u32,
}

/// Largest document, in bytes.
const MAX_DOCUMENT: u64 = 256 << 10;
const ACCEPT: &str = "application/did+ld+json,application/json";

/// A client that fetches documents.
pub struct Resolver {
    settings: Settings,
    /// For addresses that the operator named.
    trusted: Client,
    /// For addresses that DIDs name.
    guarded: Client,
    hosts: Hosts,
    /// The state of the hosts that DIDs name.
    domains: Domains,
}

impl Resolver {
    /// A resolver with this `user_agent`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(user_agent: &str, settings: Settings) -> Result<Self, FetchError> {
        let limits = |private| Limits {
            total: settings.timeout,
            stall: settings.timeout,
            bytes: MAX_DOCUMENT,
            private,
            redirects: Redirects::Never,
        };
        let named = [Some(&settings.plc_url), settings.web_server.as_ref()];
        let named = named.into_iter().flatten().map(String::as_str);
        Ok(Self {
            trusted: Client::new(user_agent, limits(Private::named(named)))?,
            guarded: Client::new(
                user_agent,
                limits(Private::default().or_all(settings.allow_private_hosts)),
            )?,
            settings,
            hosts: Hosts::default(),
            domains: Domains::default(),
        })
    }

    /// Fetches the document of `did`.
    pub async fn resolve(&self, did: &str) -> Found {
        if let Some(id) = did.strip_prefix("did:web:") {
            return self.resolve_web(did, id).await;
        }
        if !did.starts_with("did:plc:") {
            return Found::Unsupported;
        }
        let url = format!("{}/{did}", self.settings.plc_url.trim_end_matches('/'));
        self.ask(&self.trusted, did, &url, None, true).await
    }

    /// The signing keys that an account had, from the log of its PLC directory, as `did:key`. Other
    /// methods keep no log, so they have none.
    ///
    /// # Errors
    /// The log could not be fetched.
    pub async fn older_keys(&self, did: &str) -> Result<Vec<String>, FetchError> {
        if !did.starts_with("did:plc:") {
            return Ok(Vec::new());
        }
        let url = format!(
            "{}/{did}/log/audit",
            self.settings.plc_url.trim_end_matches('/')
        );
        let small = SmallRequest {
            url: &url,
            accept: "application/json",
            host: None,
        };
        let policy = Policy {
            attempts: self.settings.attempts,
            pauses: Pauses::Here,
        };
        let request = || async {
            match self.ask_directory(small).await {
                Err(FetchError::Refused(404, _)) => Ok(Vec::new()),
                got => got,
            }
        };
        let body = retry::persist(policy, std::future::pending(), request, |_, _| {}).await?;
        Ok(keys_of_log(&body))
    }

    /// Fetches a `did:web` document: the host's `/.well-known/did.json`. A path is not supported, a
    /// port is, and `localhost` is requested without TLS.
    async fn resolve_web(&self, did: &str, id: &str) -> Found {
        let host = id.replace("%3A", ":").replace("%3a", ":");
        if id.contains(':') || host.contains(['/', '%', '?', '#', '@']) {
            return Found::Unsupported;
        }
        if let Some(server) = &self.settings.web_server {
            let url = format!("{}/.well-known/did.json", server.trim_end_matches('/'));
            return self.ask(&self.trusted, did, &url, Some(&host), false).await;
        }
        let is_local = host.split(':').next() == Some("localhost");
        let scheme = if is_local { "http" } else { "https" };
        let url = format!("{scheme}://{host}/.well-known/did.json");
        if let Some(why) = self.domains.put_off(&host) {
            return Found::Unreachable(why);
        }
        let started = Instant::now();
        let found = self.ask(&self.guarded, did, &url, None, false).await;
        let has_answered = !matches!(found, Found::Unreachable(_));
        self.domains.asked(&host, has_answered, started.elapsed());
        found
    }

    async fn ask(
        &self,
        client: &Client,
        did: &str,
        url: &str,
        host: Option<&str>,
        is_plc: bool,
    ) -> Found {
        let paced = host_of(url);
        let policy = Policy {
            attempts: self.settings.attempts,
            // Other hosts must not hold up the rest: a later run retries them.
            pauses: Pauses::Shared { is_patient: is_plc },
        };
        let small = SmallRequest {
            url,
            accept: ACCEPT,
            host,
        };
        let request = || async {
            let got = match is_plc {
                true => self.ask_directory(small).await,
                false => {
                    self.hosts.wait(&paced).await?;
                    client.get_small(small).await
                }
            };
            match got {
                Ok(body) => Ok(match document::parse(&body, did) {
                    Ok(document) => Found::Document(document),
                    Err(error) => Found::Useless(error),
                }),
                // A tombstone is 410.
                Err(FetchError::Refused(404 | 410, _)) => Ok(Found::Gone),
                // As in the official code: whatever a did:web's host sends instead of a document,
                // there is none.
                Err(FetchError::Refused(..)) if !is_plc => Ok(Found::Gone),
                // Not a DID of the directory.
                Err(FetchError::Refused(400, _)) => Ok(Found::Unsupported),
                Err(
                    error @ (FetchError::BadUrl(_)
                    | FetchError::Blocked(_)
                    | FetchError::Redirect(_)
                    | FetchError::TooLarge(_)
                    | FetchError::Swollen { .. }),
                ) => Ok(Found::Useless(DocumentError::Malformed(error.to_string()))),
                Err(error) => Err(error),
            }
        };
        let found = retry::persist(policy, std::future::pending(), request, |_, retry| {
            // The directory has its own pace.
            if let Retry::AfterHost(wait) | Retry::NeverHost(wait) = retry
                && !is_plc
            {
                self.hosts.pause(&paced, wait);
            }
        });
        found
            .await
            .unwrap_or_else(|error| Found::Unreachable(error.to_string()))
    }

    /// Asks the directory at its pace: as long as it asks for a pause, there is nothing to do.
    async fn ask_directory(&self, small: SmallRequest<'_>) -> Result<Vec<u8>, FetchError> {
        let mut turn = self.settings.plc_pace.turn().await;
        let got = self.trusted.get_small_seen(small, &mut turn.seen).await;
        turn.end(&got);
        got
    }
}

/// The signing keys in a PLC directory's log of an account, whatever the form of its operations.
fn keys_of_log(log: &[u8]) -> Vec<String> {
    let entries: Vec<serde_json::Value> = serde_json::from_slice(log).unwrap_or_default();
    let mut keys: Vec<String> = entries
        .iter()
        // A nullified operation never counted.
        .filter(|entry| entry.get("nullified").and_then(serde_json::Value::as_bool) != Some(true))
        .filter_map(|entry| {
            let operation = entry.get("operation")?;
            let key = operation
                .pointer("/verificationMethods/atproto")
                // The oldest form of operations.
                .or_else(|| operation.get("signingKey"))?;
            key.as_str().map(str::to_owned)
        })
        .collect();
    keys.dedup();
    keys
}
