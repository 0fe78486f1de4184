//! An HTTP client of the tests: a request a connection.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Status, head and body of an answer.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

/// Most time for an answer that may never come, and for one that must.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(120);

/// Asks once, on a connection of its own. The host of the URL may be a name of loopback.
pub(crate) fn try_get(url: &str, host: Option<&str>) -> std::io::Result<Got> {
    get_within(url, host, SHORT)
}

fn get_within(url: &str, host: Option<&str>, patience: Duration) -> std::io::Result<Got> {
    let rest = url.split_once("://").unwrap().1;
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(a, p)| (a, p));
    let port = authority.rsplit_once(':').unwrap().1;
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    stream.set_read_timeout(Some(patience))?;
    let host = host.unwrap_or(authority);
    let begin = std::time::Instant::now();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\n\r\n")?;
    let mut all = Vec::new();
    let end = loop {
        if let Some(end) = all.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        all.extend(&piece[..count]);
    };
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut body = all.split_off(end);
    let length: usize =
        header(&head, "content-length").map_or(usize::MAX, |length| length.parse().unwrap());
    while body.len() < length {
        let mut piece = [0; 65536];
        let count = stream.read(&mut piece)?;
        if count == 0 || body.len() > 30 << 20 || begin.elapsed() > patience {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        body.extend(&piece[..count]);
    }
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Got { status, head, body })
}

pub(crate) fn get(url: &str) -> Got {
    get_as(url, None)
}

/// An answer that must come. The host may be another one than that of the URL.
pub(crate) fn get_as(url: &str, host: Option<&str>) -> Got {
    get_within(url, host, LONG).unwrap_or_else(|error| panic!("{url}: {error}"))
}

pub(crate) fn header(head: &str, name: &str) -> Option<String> {
    let mut pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

pub(crate) fn get_repo(pds: &str, did: &str) -> Got {
    get(&format!("{pds}/xrpc/com.atproto.sync.getRepo?did={did}"))
}

/// All items of a list, by pages of `limit`.
pub(crate) fn list(url: &str, method: &str, name: &str, limit: usize) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let separator = if method.contains('?') { '&' } else { '?' };
        let page = get(&format!(
            "{url}/xrpc/com.atproto.sync.{method}{separator}limit={limit}{cursor}"
        ))
        .json();
        items.extend(page[name].as_array().unwrap().iter().cloned());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// By DID, status of each account that a host lists.
pub(crate) fn listed(url: &str) -> BTreeMap<String, Option<String>> {
    let line = |row: &Value| {
        let status = row["status"].as_str().map(str::to_owned);
        assert_eq!(row["active"].as_bool().unwrap(), status.is_none());
        (text(&row["did"]), status)
    };
    let rows = list(url, "listRepos", "repos", 7);
    let by_did: BTreeMap<_, _> = rows.iter().map(line).collect();
    assert_eq!(by_did.len(), rows.len(), "nobody twice");
    by_did
}
