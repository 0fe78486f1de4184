//! AT-URIs in records, taken apart as the official code's `AtUri` does (`@atproto/syntax`).

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
    /// Takes `uri` apart; `None` if it does not begin as an AT-URI or has a query, a space, or no authority.
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
        (!authority.is_empty()).then_some(Self {
            authority,
            collection,
            rkey,
            has_fragment: fragment.is_some(),
        })
    }
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
    }
}
