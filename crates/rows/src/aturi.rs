//! Parses AT-URIs in records as the official code's `AtUri` does (`@atproto/syntax`).

use crate::reject::{Reject, Rule};

/// The parts of an AT-URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtUri<'a> {
    /// DID or handle.
    pub authority: &'a str,
    /// First segment of the path, or nothing.
    pub collection: &'a str,
    /// Second segment of the path, or nothing.
    pub rkey: &'a str,
    /// Whether a fragment follows.
    pub has_fragment: bool,
}

impl<'a> AtUri<'a> {
    /// Parses `uri`; `None` if the official `AtUri` throws on it: it does not begin as an AT-URI,
    /// has a query or a space, or an authority with other characters than that knows. Some valid
    /// DIDs are among these (with an underscore, or a percent sign and a dot).
    #[must_use]
    pub fn parse(uri: &'a str) -> Option<Self> {
        let rest = uri.strip_prefix("at://")?;
        if rest.bytes().any(|b| b == b'?' || b.is_ascii_whitespace()) {
            return None;
        }
        let (path, fragment) = rest
            .split_once('#')
            .map_or((rest, None), |(path, fragment)| (path, Some(fragment)));
        let (authority, path) = path.split_once('/').unwrap_or((path, ""));
        let mut segments = path.split('/').filter(|s| !s.is_empty());
        let (collection, rkey) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
        is_authority(authority).then_some(Self {
            authority,
            collection,
            rkey,
            has_fragment: fragment.is_some(),
        })
    }
}

/// The authority of `uri`, which is at `path` in a record.
///
/// # Errors
/// The official `AtUri` throws on it, so the record leaves no rows.
pub(crate) fn authority<'a>(uri: &'a str, path: &str) -> Result<&'a str, Reject> {
    authority_of(uri).ok_or_else(|| no_authority(path))
}

/// The rejection of a record whose URI at `path` the official code cannot parse.
pub(crate) fn no_authority(path: &str) -> Reject {
    Reject::new(
        path,
        Rule::Official("an authority that the official indexer cannot parse"),
    )
}

/// As [`AtUri::parse`], for the authority alone.
fn authority_of(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("at://")?;
    let end = rest
        .bytes()
        .position(|b| matches!(b, b'/' | b'#'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let is_bad = |b: u8| b == b'?' || b.is_ascii_whitespace();
    (is_authority(authority) && !path.bytes().any(is_bad)).then_some(authority)
}

/// The second group of `ATP_URI_REGEX` in `aturi.ts`, which ignores case.
pub(crate) fn is_authority(text: &str) -> bool {
    let all = |text: &str, others: &[u8]| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
    };
    let is_did = text
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case("did:"))
        && text.len() > 4
        && text.get(4..).is_some_and(|rest| all(rest, b":%-"));
    is_did || (text.starts_with(|c: char| c.is_ascii_alphanumeric()) && all(text, b".:-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let uri = AtUri::parse("at://did:plc:a/app.bsky.feed.post/3k#/x").unwrap();
        assert_eq!(
            (uri.authority, uri.collection, uri.rkey, uri.has_fragment),
            ("did:plc:a", "app.bsky.feed.post", "3k", true)
        );
        assert_eq!(AtUri::parse("at://did:plc:a").unwrap().collection, "");
        assert_eq!(AtUri::parse("https://x"), None);
        assert_eq!(AtUri::parse("at:///x"), None);
        assert!(
            AtUri::parse("at://did:web:a.b/c").is_some()
                && AtUri::parse("at://did:web:a%3A80/c").is_some()
        );
        assert_eq!(AtUri::parse("at://did:web:a_b.com/c"), None);
        assert_eq!(AtUri::parse("at://did:web:a.b%3A80/c"), None);
        for uri in [
            "at://did:plc:a/b/c#d",
            "at://did:plc:a#/x",
            "at://did:plc:a?x",
            "at://did:plc:a/b c",
            "at://alice.test/#?",
            "at://",
            "at:///",
            "x",
        ] {
            assert_eq!(
                authority_of(uri),
                AtUri::parse(uri).map(|uri| uri.authority),
                "{uri}"
            );
        }
    }
}
