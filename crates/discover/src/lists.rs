//! Reads the lists that hosts and relays return: pages of `com.atproto.sync.listRepos`, `listHosts`
//! and `listReposByCollection`.
//!
//! The content of a page is untrusted. Lines that are not valid are left out and counted, and a
//! page uses no more memory than its valid lines (`page`).

use crate::page::{self, Line};
use atrepo::syntax;

/// Repos or hosts per page, the maximum that PDSes and relays return.
pub const PAGE: usize = 1000;
/// Maximum number of lines that are read of a page.
const MAX_LINES: usize = 10_000;
/// Longest cursor that is kept, in bytes.
const MAX_CURSOR: usize = 4096;
/// Longest host name, with a port.
const MAX_HOST: usize = 260;

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Where the next page begins; `None` at the end of the list.
    pub cursor: Option<String>,
    /// The valid lines.
    pub lines: Vec<T>,
    /// Number of lines that are not valid.
    pub bad: u64,
}

/// A repo of `listRepos`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRepo {
    /// The account.
    pub did: String,
    /// Rev of its repo.
    pub rev: Option<String>,
    /// Why it is not active: `deactivated`, `suspended`, `takendown`, `deleted`. Other states
    /// (`desynchronized`, `throttled`) belong to a relay's own copy and say nothing about the
    /// account.
    pub status: Option<&'static str>,
}

/// A host of `listHosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedHost {
    /// Its URL.
    pub url: String,
    /// Number of its accounts that the relay knows.
    pub accounts: Option<u64>,
    /// The relay's state of it: `active`, `idle`, `offline`, `throttled`, `banned`.
    pub status: Option<String>,
}

/// Why a body is not a page.
pub type NoPage = &'static str;

fn read<T>(body: &[u8], line: impl Fn(Line) -> Option<T>) -> Result<Page<T>, NoPage> {
    let page = page::read(body, MAX_LINES, line).map_err(|_| "it is no list")?;
    if page.is_too_long {
        return Err("it has more lines than a page has");
    }
    let cursor = page.cursor.filter(|cursor| !cursor.is_empty());
    let is_odd =
        |cursor: &String| cursor.len() > MAX_CURSOR || cursor.chars().any(char::is_control);
    if cursor.as_ref().is_some_and(is_odd) {
        return Err("its cursor is too long, or no text");
    }
    Ok(Page {
        cursor,
        lines: page.lines,
        bad: page.bad,
    })
}

fn did_of(line: Line) -> Option<String> {
    line.did.filter(|did| syntax::is_did(did))
}

/// Reads a page of `listRepos`.
///
/// # Errors
/// The body is not one.
pub fn repos(body: &[u8]) -> Result<Page<ListedRepo>, NoPage> {
    read(body, |mut line| {
        let is_active = line.active.unwrap_or(true);
        let known = ["deactivated", "suspended", "takendown", "deleted"];
        let status = line.status.take();
        Some(ListedRepo {
            rev: line
                .rev
                .take()
                .filter(|rev| syntax::tid_micros(rev).is_some()),
            did: did_of(line)?,
            status: known
                .into_iter()
                .find(|known| status.as_deref() == Some(*known))
                .filter(|_| !is_active),
        })
    })
}

/// Reads a page of `listReposByCollection`.
///
/// # Errors
/// The body is not one.
pub fn dids(body: &[u8]) -> Result<Page<String>, NoPage> {
    read(body, did_of)
}

/// Reads a page of `listHosts`. The caller leaves out banned hosts.
///
/// # Errors
/// The body is not one.
pub fn hosts(body: &[u8]) -> Result<Page<ListedHost>, NoPage> {
    read(body, |line| {
        Some(ListedHost {
            url: host_url(&line.hostname?)?,
            accounts: line.accounts,
            status: line.status,
        })
    })
}

/// The URL of a host that a relay names: without TLS if it is this machine, as the specifications
/// define it for `did:web:localhost`.
#[must_use]
pub fn host_url(hostname: &str) -> Option<String> {
    let is_plain =
        |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if hostname.is_empty() || hostname.len() > MAX_HOST || !hostname.bytes().all(is_plain) {
        return None;
    }
    let name = match hostname.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => hostname,
    };
    let is_local = name == "localhost"
        || name.ends_with(".localhost")
        || name.starts_with("127.")
        || name == "[::1]";
    Some(format!(
        "{}://{hostname}",
        if is_local { "http" } else { "https" }
    ))
}

/// The URL of a relay or PDS as people write it: `wss:` counts as `https:`, and the path is
/// dropped.
#[must_use]
pub fn base_url(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('/');
    let text = text
        .strip_prefix("wss://")
        .map(|rest| format!("https://{rest}"))
        .or_else(|| {
            text.strip_prefix("ws://")
                .map(|rest| format!("http://{rest}"))
        })
        .unwrap_or_else(|| text.to_owned());
    let rest = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Some(text),
        Some(_) => None,
        None => host_url(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_and_what_makes_no_sense_is_counted() {
        let page = repos(
            br#"{"cursor":"c","repos":[{"did":"did:plc:a","head":"x","rev":"3jzfcijpj2z2a","active":true},
            {"did":"did:plc:b","rev":"now","active":false,"status":"takendown"},{"did":"did:plc:c","active":false,"status":"throttled"},
            {"did":"alice"},7,null]}"#,
        )
        .unwrap();
        assert_eq!((page.cursor.as_deref(), page.bad), (Some("c"), 3));
        assert_eq!(page.lines[0].rev.as_deref(), Some("3jzfcijpj2z2a"));
        assert_eq!(
            (page.lines[1].rev.as_deref(), page.lines[1].status),
            (None, Some("takendown"))
        );
        assert_eq!(page.lines[2].status, None);
        assert_eq!(repos(br#"{"cursor":"","repos":[]}"#).unwrap().cursor, None);
        for bad in [
            "",
            "[]",
            "{\"repos\":1}",
            "<html>",
            "{\"cursor\":1,\"repos\":[]}",
        ] {
            assert!(repos(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(repos(br#"{"cursor":"a\u0000","repos":[]}"#).is_err());
        let many = format!("{{\"repos\":[{}1]}}", "1,".repeat(20_000));
        assert_eq!(
            repos(many.as_bytes()),
            Err("it has more lines than a page has")
        );
        let hosts =
            hosts(br#"{"hosts":[{"hostname":"pds.example","accountCount":5},{"hostname":"a/b"}]}"#)
                .unwrap();
        assert_eq!(
            (hosts.lines[0].url.as_str(), hosts.bad),
            ("https://pds.example", 1)
        );
    }

    #[test]
    fn hosts_and_relays_are_written_in_many_ways() {
        for (name, url) in [
            ("localhost:2583", Some("http://localhost:2583")),
            ("a.localhost:80", Some("http://a.localhost:80")),
            ("pds.example", Some("https://pds.example")),
            ("pds.example/x", None),
            ("user@pds.example", None),
            ("", None),
        ] {
            assert_eq!(host_url(name).as_deref(), url, "{name}");
        }
        for (text, url) in [
            ("wss://relay.example/", Some("https://relay.example")),
            ("ws://localhost:1", Some("http://localhost:1")),
            ("relay.example", Some("https://relay.example")),
            ("https:///x", None),
        ] {
            assert_eq!(base_url(text).as_deref(), url, "{text}");
        }
    }
}
