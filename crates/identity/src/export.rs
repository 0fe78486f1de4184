//! Reads the PLC's `/export`: all operations in the order of time, as JSON lines
//! (<https://web.plc.directory/api/redoc>).

use crate::document::{self, Document, DocumentError};
use crate::lenient::{Keep, Kept, Text};
use atrepo::syntax::is_did;
use fetch::guard::Private;
use fetch::{Client, FetchError, Limits, OneServer, Redirects, SmallRequest};
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess};
use std::collections::BTreeMap;
use std::time::Duration;

/// Operations per page, the maximum that the directory returns.
pub const PAGE: usize = 1000;
/// Largest page, in bytes; real operations have less than 4 KB.
const MAX_PAGE: u64 = 32 << 20;
/// Longest line that is read, in bytes. The directory accepts operations of up to 7,500 bytes.
const MAX_LINE: usize = 64 << 10;
/// Maximum number of lines that are read of a page.
const MAX_LINES: usize = 4 * PAGE;

/// The meaning of the last operation of a DID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Latest {
    /// A document.
    Document(Document),
    /// An unusable document.
    Useless(DocumentError),
    /// The DID no longer exists.
    Tombstone,
}

/// A page of the export.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Where the next page begins, if this one had operations. After a full page that is before the
    /// time of the last operation, because other operations with the same time may follow.
    pub cursor: Option<String>,
    /// The meaning of the last valid operation in the page, by DID.
    pub latest: BTreeMap<String, Latest>,
    /// Number of lines that could not be read.
    pub bad_lines: u64,
}

#[derive(Deserialize)]
struct Line {
    did: String,
    operation: Kept<Operation>,
    #[serde(default)]
    nullified: bool,
    #[serde(rename = "createdAt")]
    created_at: String,
}

/// What is kept of an operation.
#[derive(Default)]
struct Operation {
    kind: Text,
    methods: Methods,
    aliases: Aliases,
    services: Services,
    /// The oldest form of operations has its fields at the top level.
    signing_key: Text,
    handle: Text,
    service: Text,
}

impl Keep for Operation {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "type" => self.kind = kept(map)?,
            "verificationMethods" => self.methods = kept(map)?,
            "alsoKnownAs" => self.aliases = kept(map)?,
            "services" => self.services = kept(map)?,
            "signingKey" => self.signing_key = kept(map)?,
            "handle" => self.handle = kept(map)?,
            "service" => self.service = kept(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn kept<'de, T: Keep, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error> {
    map.next_value::<Kept<T>>().map(|value| value.0)
}

/// The signing key among the verification methods.
#[derive(Default)]
struct Methods(Text);

impl Keep for Methods {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        let is_it = name == "atproto";
        if is_it {
            self.0 = kept(map)?;
        }
        Ok(is_it)
    }
}

/// The first handle among the other names.
#[derive(Default)]
struct Aliases(Text);

impl Keep for Aliases {
    fn list<'de, A: SeqAccess<'de>>(&mut self, mut list: A) -> Result<(), A::Error> {
        while let Some(alias) = list.next_element::<Kept<Text>>()? {
            let handle = alias
                .0
                .and_then(|alias| Some(alias.strip_prefix("at://")?.to_owned()));
            self.0 = self.0.take().or(handle);
        }
        Ok(())
    }
}

/// The PDS among the services.
#[derive(Default)]
struct Services(Service);

impl Keep for Services {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        let is_it = name == "atproto_pds";
        if is_it {
            self.0 = kept(map)?;
        }
        Ok(is_it)
    }
}

#[derive(Default)]
struct Service {
    kind: Text,
    endpoint: Text,
}

impl Keep for Service {
    fn field<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "type" => self.kind = kept(map)?,
            "endpoint" => self.endpoint = kept(map)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A client for the export.
pub struct Export {
    http: Client,
    url: String,
    pace: OneServer,
}

impl Export {
    /// A client for the directory at `plc_url`, with this `user_agent`, at the directory's `pace`.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(
        user_agent: &str,
        plc_url: &str,
        timeout: Duration,
        pace: OneServer,
    ) -> Result<Self, FetchError> {
        let limits = Limits {
            total: timeout,
            stall: timeout,
            bytes: MAX_PAGE,
            private: Private::named([plc_url]),
            redirects: Redirects::Never,
        };
        Ok(Self {
            http: Client::new(user_agent, limits)?,
            url: format!("{}/export", plc_url.trim_end_matches('/')),
            pace,
        })
    }

    /// The page after `cursor`, or the first one.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn page(&self, cursor: Option<&str>) -> Result<Page, FetchError> {
        let bad = |_| FetchError::BadUrl(self.url.clone());
        let mut url = url::Url::parse(&self.url).map_err(bad)?;
        url.query_pairs_mut()
            .append_pair("count", &PAGE.to_string());
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("after", cursor);
        }
        let small = SmallRequest {
            url: url.as_str(),
            accept: "application/jsonlines",
            host: None,
        };
        let mut turn = self.pace.turn().await;
        let got = self.http.get_small_seen(small, &mut turn.seen).await;
        turn.end(&got);
        Ok(read_page(&got?))
    }
}

/// Parses the lines of a page.
#[must_use]
pub fn read_page(body: &[u8]) -> Page {
    let mut page = Page::default();
    let (mut lines, mut before_last) = (0usize, None);
    for line in body.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        lines = lines.saturating_add(1);
        let is_readable = line.len() <= MAX_LINE && lines <= MAX_LINES;
        let line = is_readable
            .then(|| serde_json::from_slice::<Line>(line).ok())
            .flatten();
        // Both are stored in the database unchanged.
        let Some(line) = line.filter(|line| is_did(&line.did) && is_cursor(&line.created_at))
        else {
            page.bad_lines = page.bad_lines.saturating_add(1);
            continue;
        };
        if page.cursor.as_ref() != Some(&line.created_at) {
            before_last = page.cursor.replace(line.created_at);
        }
        if !line.nullified {
            page.latest
                .insert(line.did, read_operation(&line.operation.0));
        }
    }
    if lines >= PAGE && before_last.is_some() {
        page.cursor = before_last;
    }
    page
}

/// Whether the time of an operation is safe to store and to send back.
fn is_cursor(time: &str) -> bool {
    time.len() <= 64 && time.bytes().all(|b| b.is_ascii_graphic())
}

fn read_operation(operation: &Operation) -> Latest {
    let (key, handle, pds) = match operation.kind.as_deref() {
        Some("plc_tombstone") => return Latest::Tombstone,
        Some("create") => (
            &operation.signing_key,
            operation
                .handle
                .as_deref()
                .map(|handle| handle.strip_prefix("at://").unwrap_or(handle)),
            &operation.service,
        ),
        _ => (
            &operation.methods.0,
            operation.aliases.0.as_deref(),
            match operation.services.0.kind.as_deref() {
                Some("AtprotoPersonalDataServer") => &operation.services.0.endpoint,
                _ => &None,
            },
        ),
    };
    let key = key
        .as_deref()
        .and_then(|key| key.strip_prefix("did:key:"))
        .map(|key| ("Multikey", key));
    match document::of_parts(key, handle, pds.as_deref()) {
        Ok(document) => Latest::Document(document),
        Err(error) => Latest::Useless(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "did:key:zQ3shUMvyB5nKMuXazrBW94EwnLoMRrXMu3vXmHq7utJzfcK8";

    #[test]
    fn the_last_operation_that_was_not_nullified_counts() {
        let operation = |handle: &str| {
            format!(
                r#"{{"type":"plc_operation","alsoKnownAs":["at://{handle}"],"verificationMethods":{{"atproto":"{KEY}"}},
                "services":{{"atproto_pds":{{"type":"AtprotoPersonalDataServer","endpoint":"https://pds.example"}}}}}}"#
            )
            .replace('\n', "")
        };
        let line = |did: &str, operation: &str, nullified: bool, at: &str| {
            format!(
                r#"{{"did":"{did}","operation":{operation},"cid":"b","nullified":{nullified},"createdAt":"{at}"}}"#
            )
        };
        let old = format!(
            r#"{{"type":"create","signingKey":"{KEY}","handle":"old.example","service":"https://pds.example"}}"#
        );
        let body = [
            line("did:plc:a", &operation("a.example"), false, "1"),
            line("did:plc:a", &operation("b.example"), false, "2"),
            line("did:plc:a", &operation("c.example"), true, "3"),
            line("did:plc:b", r#"{"type":"plc_tombstone"}"#, false, "4"),
            line("did:plc:c", &old, false, "5"),
            "nonsense".to_owned(),
            line("did:plc:\\u0000", &old, false, "6"),
            line("did:plc:d", &old, false, "7\\u0000"),
            format!("[{}0]", "0,".repeat(MAX_LINE)),
        ]
        .join("\n");
        let page = read_page(body.as_bytes());
        let handle = |did: &str| match &page.latest[did] {
            Latest::Document(document) => document.handle.clone().unwrap_or_default(),
            other => format!("{other:?}"),
        };
        assert_eq!(handle("did:plc:a"), "b.example");
        assert_eq!(page.latest["did:plc:b"], Latest::Tombstone);
        assert_eq!(handle("did:plc:c"), "old.example");
        assert_eq!((page.cursor.as_deref(), page.bad_lines), (Some("5"), 4));
    }
}
