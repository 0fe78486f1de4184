//! Hosts that asked for a pause.

use crate::FetchError;
use crate::guard;
use observe::printable;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// If a host asks for a longer wait than this, the repo fails instead: PDSes count in windows of
/// five minutes.
pub const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// The time until which each host is paused. A host is the authority of its URL.
#[derive(Default)]
pub struct Hosts {
    until: Mutex<HashMap<String, Instant>>,
}

impl Hosts {
    /// Pauses `host` for `wait` from now on, or longer if a longer pause is in effect.
    pub fn pause(&self, host: &str, wait: Duration) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        // For one run, a day is the same as forever.
        let wanted = Instant::now() + wait.min(Duration::from_secs(86_400));
        let entry = until.entry(host.to_owned()).or_insert(wanted);
        *entry = (*entry).max(wanted);
    }

    /// The end of the pause of `host`, if it is paused.
    fn paused_until(&self, host: &str) -> Option<Instant> {
        let mut map = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let until = *map.get(host)?;
        if until <= Instant::now() {
            map.remove(host);
            return None;
        }
        Some(until)
    }

    /// Waits until `host` may get a request.
    ///
    /// # Errors
    /// It asked for a longer pause than [`LONGEST_ASKED`].
    pub async fn wait(&self, host: &str) -> Result<(), FetchError> {
        while let Some(until) = self.paused_until(host) {
            let left = until.saturating_duration_since(Instant::now());
            if left > LONGEST_ASKED {
                return Err(FetchError::RateLimited(Some(left)));
            }
            tokio::time::sleep_until(until).await;
        }
        Ok(())
    }
}

/// Longest name of a host, with its port, in bytes. A longer one does not resolve.
const MAX_HOST_BYTES: usize = 253 + ":65535".len();

/// The name under which the host of a PDS URL is paced. It is part of keys in the ledger, so a name
/// that is too long to resolve is cut.
#[must_use]
pub fn host_of(pds: &str) -> String {
    let host = url::Url::parse(pds).ok().and_then(|url| {
        let host = url.host_str()?.trim_end_matches('.').to_owned();
        Some(
            url.port()
                .map_or_else(|| host.clone(), |port| format!("{host}:{port}")),
        )
    });
    let mut host = host.unwrap_or_else(|| printable(pds).into_owned());
    if host.len() > MAX_HOST_BYTES {
        let fits = host
            .char_indices()
            .take_while(|(at, c)| at + c.len_utf8() <= MAX_HOST_BYTES);
        host = fits.map(|(_, c)| c).collect();
    }
    host
}

/// The domain of a host for pacing: the part that one owner registered, all of whose names may
/// belong to that owner (`evil.example` for `a.b.evil.example:8080`; by the public suffix list, so
/// that `alice.github.io` is a domain). For a public address, the network that one customer gets:
/// the first three bytes, or 64 bits. A private address with its port is its own domain: that is a
/// test network.
#[must_use]
pub fn domain_of(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) if !guard::is_public(address) => host.to_owned(),
        Ok(IpAddr::V4(v4)) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        Ok(IpAddr::V6(v6)) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        Err(_) if name == "localhost" || name.ends_with(".localhost") => host.to_owned(),
        Err(_) => psl::domain_str(name.trim_end_matches('.'))
            .unwrap_or(name)
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_authority_that_fits_a_key() {
        assert_eq!(host_of("https://pds.example./x"), "pds.example");
        assert_eq!(host_of("https://pds.example:444"), "pds.example:444");
        assert_eq!(host_of("nonsense"), "nonsense");
        let longest = format!("https://{}.example", "a".repeat(2000));
        assert_eq!(host_of(&longest), "a".repeat(259));
        assert_eq!(host_of(&"ä".repeat(2000)).len(), 258);
    }

    #[test]
    fn a_domain_is_what_one_owner_has() {
        for (host, domain) in [
            ("pds.example.com", "example.com"),
            ("a.b.c.example.co.uk:8080", "example.co.uk"),
            ("alice.github.io", "alice.github.io"),
            ("localhost:2583", "localhost:2583"),
            ("127.0.0.1:2583", "127.0.0.1:2583"),
            ("8.8.4.4:2583", "8.8.4.0/24"),
            ("[2606:4700::1]:80", "2606:4700:0:0::/64"),
            ("com", "com"),
            ("", ""),
        ] {
            assert_eq!(domain_of(host), domain, "{host}");
        }
    }
}
