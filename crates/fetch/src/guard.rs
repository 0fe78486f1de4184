//! The SSRF guard: decides which addresses may be contacted. A DID document, a handle, a list of
//! hosts or a redirect may name anything, including the private network of whoever runs skyfill.
//! Only the operator may name hosts there: each one by itself, or all with `--allow-private-hosts`.

use crate::FetchError;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Hosts that may be on private networks and on this machine: those that the operator named, or
/// all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Private {
    named: HashSet<String>,
    all: bool,
}

impl Private {
    /// The hosts of these URLs at their ports, and no others.
    pub fn named<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        let parsed = urls.into_iter().filter_map(|url| Url::parse(url).ok());
        Self {
            named: parsed.filter_map(|url| authority(&url)).collect(),
            all: false,
        }
    }

    /// If `all`, every other host as well.
    #[must_use]
    pub fn or_all(self, all: bool) -> Self {
        Self { all, ..self }
    }

    /// Whether the operator named the host of `url`.
    fn is_named(&self, url: &Url) -> bool {
        authority(url).is_some_and(|authority| self.named.contains(&authority))
    }

    /// Whether the host of `url` may be anywhere.
    pub(crate) fn allows(&self, url: &Url) -> bool {
        self.all || self.is_named(url)
    }

    /// Refuses a URL with another scheme, without a host, or with a password that the operator did
    /// not give.
    pub(crate) fn check_form(&self, url: &Url) -> Result<(), FetchError> {
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(FetchError::BadUrl(shown(url.as_str())));
        }
        if (!url.username().is_empty() || url.password().is_some()) && !self.is_named(url) {
            let host = shown(url.host_str().unwrap_or_default());
            return Err(FetchError::BadUrl(format!(
                "the URL of {host} has a user name or a password in it"
            )));
        }
        Ok(())
    }
}

/// Host and port.
fn authority(url: &Url) -> Option<String> {
    let host = url.host_str()?.trim_end_matches('.');
    Some(format!("{host}:{}", url.port_or_known_default()?))
}

/// The beginning of a text from outside, as much as an error needs.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Whether `address` is on the public internet: global unicast, according to the IANA
/// special-purpose registries.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a, b & 0xc0) == (100, 64)
        || (a, b, c) == (192, 0, 0)
        || (a, b, c) == (192, 88, 99)
        || (a, b & 0xfe) == (198, 18))
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    if let Some(v4) = v6.to_ipv4_mapped() {
        return is_public_v4(v4);
    }
    let [a, b, c, ..] = v6.segments();
    let [.., w, x, y, z] = v6.octets();
    match a {
        // NAT64 and 6to4 carry an IPv4 address.
        0x64 if b == 0xff9b => c == 0 && is_public_v4(Ipv4Addr::new(w, x, y, z)),
        0x2002 => {
            let [b1, b2] = b.to_be_bytes();
            let [c1, c2] = c.to_be_bytes();
            is_public_v4(Ipv4Addr::new(b1, b2, c1, c2))
        }
        // Teredo, benchmarking, ORCHID, documentation.
        0x2001 => b > 0x01ff && b != 0x0db8,
        0x3fff => b > 0x0fff,
        _ => a & 0xe000 == 0x2000,
    }
}

/// An address that the guard refused, as it travels inside the HTTP client's errors.
#[derive(Debug)]
pub(crate) struct Blocked(pub(crate) String);

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not on the public internet", self.0)
    }
}

impl std::error::Error for Blocked {}

/// The system's resolver. A guarded one leaves out private addresses. The connection goes to an
/// address that was checked, so a name cannot resolve differently in between. Names below
/// `localhost` are this machine, whatever the system's resolver says (RFC 6761).
pub(crate) struct OwnResolver {
    pub(crate) guarded: bool,
}

impl Resolve for OwnResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guarded = self.guarded;
        Box::pin(async move {
            let is_local = name.as_str().trim_end_matches('.').ends_with(".localhost");
            let found: Vec<SocketAddr> = if is_local {
                vec![(Ipv4Addr::LOCALHOST, 0).into()]
            } else {
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect()
            };
            let allowed: Vec<SocketAddr> = found
                .iter()
                .copied()
                .filter(|address| !guarded || is_public(address.ip()))
                .collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(Blocked(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Refuses a URL whose host is a private address; names are checked by the resolver.
pub(crate) fn check_literal(url: &reqwest::Url) -> Result<(), Blocked> {
    let address = match url.host() {
        Some(url::Host::Ipv4(v4)) => IpAddr::V4(v4),
        Some(url::Host::Ipv6(v6)) => IpAddr::V6(v6),
        _ => return Ok(()),
    };
    if is_public(address) {
        Ok(())
    } else {
        Err(Blocked(address.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_passes() {
        for public in [
            "8.8.8.8",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1",
            "2001:4860:4860::8888",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "::127.0.0.1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn only_what_the_operator_named_may_be_private_and_only_at_its_port() {
        let named = Private::named(["http://10.0.0.1:2583", "https://relay.internal/"]);
        let allows = |url: &str| named.allows(&url.parse().unwrap());
        assert!(allows("http://10.0.0.1:2583/xrpc/x") && allows("https://relay.internal:443/"));
        assert!(!allows("http://10.0.0.1:22/") && !allows("http://relay.internal/"));
        assert!(
            !allows("http://10.0.0.2:2583/")
                && !Private::default().allows(&"http://[::1]/".parse().unwrap())
        );
    }

    #[test]
    fn literals_in_urls_are_seen_however_they_are_written() {
        for blocked in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]:80/",
            "http://[::ffff:7f00:1]/",
        ] {
            assert!(
                check_literal(&blocked.parse().unwrap()).is_err(),
                "{blocked}"
            );
        }
        assert!(check_literal(&"https://8.8.8.8/".parse().unwrap()).is_ok());
    }
}
