//! Resolves handles: a TXT record of `_atproto.HANDLE` first, then
//! `https://HANDLE/.well-known/atproto-did` (`handle/index.ts` of `@atproto/identity`).

use crate::domains::Domains;
use fetch::guard::Private;
use fetch::{Client, FetchError, Limits, Redirects, SmallRequest};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The result of resolving a handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// The handle resolves to this DID.
    To(String),
    /// The handle resolves to nothing, according to everybody who was asked.
    Nowhere,
    /// Somebody did not respond, so that the handle must be retried later.
    Unreachable(String),
}

/// How the host of a handle took a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It answered, or was not asked.
    Answered,
    /// It did not respond.
    Silent,
    /// It asks for fewer requests.
    Limited,
}

/// Which servers to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The DNS server, instead of the system's.
    pub dns_server: Option<SocketAddr>,
    /// Server to send the request to instead of the handle's own host, with the handle in the
    /// `Host` header.
    pub well_known_server: Option<String>,
    /// Whether requests to private networks are allowed. Requests to `well_known_server`, which the
    /// operator names, always are.
    pub allow_private_hosts: bool,
    /// Maximum time of each request.
    pub timeout: Duration,
}

/// Maximum size of a well-known response that is read: a DID has at most 2 KiB. skyfill does not
/// wait for what comes after the first line, however long it is.
const MAX_ANSWER: u64 = 64 << 10;

/// A client that resolves handles.
pub struct Resolver {
    dns: TokioResolver,
    http: Client,
    well_known_server: Option<String>,
    domains: Domains,
}

impl Resolver {
    /// A resolver with this `user_agent`.
    ///
    /// # Errors
    /// The system's DNS settings cannot be read, or TLS cannot be set up.
    pub fn new(user_agent: &str, settings: Settings) -> Result<Self, String> {
        let mut builder = match settings.dns_server {
            Some(address) => {
                let at_port = |mut connection: ConnectionConfig| {
                    connection.port = address.port();
                    connection
                };
                let connections = vec![
                    at_port(ConnectionConfig::udp()),
                    at_port(ConnectionConfig::tcp()),
                ];
                let server = NameServerConfig::new(address.ip(), true, connections);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
            None => TokioResolver::builder_tokio()
                .map_err(|error| format!("read the system's DNS settings: {error}"))?,
        };
        let options = builder.options_mut();
        options.timeout = settings.timeout;
        options.attempts = 2;
        // Each name is looked up once.
        options.cache_size = 0;
        let dns = builder
            .build()
            .map_err(|error| format!("set up DNS: {error}"))?;
        let limits = Limits {
            total: settings.timeout,
            stall: settings.timeout,
            bytes: MAX_ANSWER,
            private: Private::named(settings.well_known_server.as_deref())
                .or_all(settings.allow_private_hosts),
            redirects: Redirects::Any,
        };
        Ok(Self {
            dns,
            http: Client::new(user_agent, limits).map_err(|error| error.to_string())?,
            well_known_server: settings.well_known_server,
            domains: Domains::default(),
        })
    }

    /// Resolves `handle`, unless its domain stalled lately.
    pub async fn resolve(&self, handle: &str) -> Leads {
        if let Some(why) = self.domains.put_off(handle) {
            return Leads::Unreachable(why);
        }
        let started = Instant::now();
        let (leads, manner) = self.ask(handle).await;
        let has_answered = manner == Manner::Answered;
        self.domains.asked(handle, has_answered, started.elapsed());
        leads
    }

    /// Resolves `handle`, however its domain behaves: whoever asks has to put domains off.
    pub async fn ask(&self, handle: &str) -> (Leads, Manner) {
        // A text that is not a handle resolves to nothing, and is not put into a URL.
        if !atrepo::syntax::is_handle(handle) {
            return (Leads::Nowhere, Manner::Answered);
        }
        let by_dns = self.ask_dns(handle).await;
        match by_dns {
            Leads::To(_) => (by_dns, Manner::Answered),
            by_dns => match (self.ask_http(handle).await, by_dns) {
                ((Leads::Nowhere, manner), Leads::Unreachable(reason)) => {
                    (Leads::Unreachable(reason), manner)
                }
                (by_http, _) => by_http,
            },
        }
    }

    /// Asks DNS about `handle`; whether there is an answer, whatever it is.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn dns_answers(&self, handle: &str) -> Result<(), String> {
        match self.ask_dns(handle).await {
            Leads::Unreachable(why) => Err(why),
            Leads::To(_) | Leads::Nowhere => Ok(()),
        }
    }

    /// Looks for exactly one text that begins with `did=`; the parts of a text are joined.
    async fn ask_dns(&self, handle: &str) -> Leads {
        let answer = match self.dns.txt_lookup(format!("_atproto.{handle}.")).await {
            Ok(answer) => answer,
            Err(error) if error.is_no_records_found() => return Leads::Nowhere,
            Err(error) => {
                return Leads::Unreachable(format!(
                    "DNS: {}",
                    observe::printable(&error.to_string())
                ));
            }
        };
        let texts = answer
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(
                    txt.txt_data
                        .iter()
                        .flat_map(|part| part.iter().copied())
                        .collect::<Vec<u8>>(),
                ),
                _ => None,
            });
        let mut dids = texts.filter_map(|text| {
            String::from_utf8(text)
                .ok()?
                .strip_prefix("did=")
                .map(str::to_owned)
        });
        match (dids.next(), dids.next()) {
            // A text without a DID does not count; the file does.
            (Some(did), None) if !did.is_empty() => Leads::To(did),
            _ => Leads::Nowhere,
        }
    }

    /// The first line of the well-known file, if it is a DID. It is read as the official resolver
    /// does: whatever the status, without a byte order mark and surrounding spaces.
    async fn ask_http(&self, handle: &str) -> (Leads, Manner) {
        let (base, host) = match &self.well_known_server {
            Some(server) => (server.trim_end_matches('/').to_owned(), Some(handle)),
            None => (format!("https://{handle}"), None),
        };
        let url = format!("{base}/.well-known/atproto-did");
        let small = SmallRequest {
            url: &url,
            accept: "text/plain",
            host,
        };
        match self.http.get_first_line(small).await {
            Ok((status, line)) => {
                let line = String::from_utf8_lossy(&line);
                let first = line.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
                let unreachable = || Leads::Unreachable(format!("status {status}"));
                match status {
                    _ if first.starts_with("did:") => {
                        (Leads::To(first.to_owned()), Manner::Answered)
                    }
                    429 => (unreachable(), Manner::Limited),
                    500.. => (unreachable(), Manner::Silent),
                    // A host that responds with anything but a DID has responded.
                    _ => (Leads::Nowhere, Manner::Answered),
                }
            }
            Err(FetchError::Redirect(_) | FetchError::Blocked(_) | FetchError::BadUrl(_)) => {
                (Leads::Nowhere, Manner::Answered)
            }
            Err(error) => (Leads::Unreachable(error.to_string()), Manner::Silent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simnet::{Answer, Server};
    use std::collections::HashMap;

    #[test]
    fn a_named_server_does_not_lead_into_a_private_network() {
        let (named, private) = (Server::start(HashMap::new()), Server::start(HashMap::new()));
        let place = format!("{}/.well-known/atproto-did", private.url());
        named.set("handle alice.example", Answer::Redirect(place));
        let resolver = |allow_private_hosts| {
            let settings = Settings {
                dns_server: Some("127.0.0.1:9".parse().unwrap()),
                well_known_server: Some(named.url()),
                allow_private_hosts,
                timeout: Duration::from_secs(2),
            };
            Resolver::new("test", settings).unwrap()
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let ask = |allow| runtime.block_on(resolver(allow).ask_http("alice.example"));
        assert_eq!(ask(false), (Leads::Nowhere, Manner::Answered));
        assert_eq!((named.requests(), private.requests()), (1, 0));
        // But where the operator allows it.
        ask(true);
        assert_eq!(private.requests(), 1);
    }
}
