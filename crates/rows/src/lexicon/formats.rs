//! The forms of strings, as `@atproto/syntax` and `@atproto/lex-data` check them in their strict
//! mode. The identifiers that repos themselves need are in [`atrepo::syntax`].

use super::language::is_language;
use crate::datetime;
use atrepo::{Link, base58, syntax};

/// A form of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `at://`, an authority, perhaps a collection, a record key and a fragment.
    AtUri,
    /// A CID.
    Cid,
    /// A date and time with a zone.
    Datetime,
    /// A DID.
    Did,
    /// A handle.
    Handle,
    /// A language tag.
    Language,
    /// The name of a collection.
    Nsid,
    /// A URI of any scheme.
    Uri,
}

impl Format {
    /// What it is, for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtUri => "an AT-URI",
            Self::Cid => "a CID",
            Self::Datetime => "a date and time with a zone",
            Self::Did => "a DID",
            Self::Handle => "a handle",
            Self::Language => "a language tag",
            Self::Nsid => "an NSID",
            Self::Uri => "a URI",
        }
    }

    /// Whether `text` has this form.
    pub(crate) fn fits(self, text: &str) -> bool {
        match self {
            Self::AtUri => is_at_uri(text),
            Self::Cid => is_cid(text),
            Self::Datetime => is_datetime(text),
            Self::Did => syntax::is_did(text),
            Self::Handle => syntax::is_handle(text),
            Self::Language => is_language(text),
            Self::Nsid => syntax::is_nsid(text),
            Self::Uri => is_uri(text),
        }
    }
}

/// Longest AT-URI, in bytes.
const MAX_AT_URI: usize = 8192;

/// `aturi_validation.ts`: no query, no slash at the end; a fragment is a JSON pointer.
fn is_at_uri(text: &str) -> bool {
    let Some(rest) = text
        .strip_prefix("at://")
        .filter(|_| text.len() <= MAX_AT_URI)
    else {
        return false;
    };
    let (path, fragment) = rest
        .split_once('#')
        .map_or((rest, None), |(path, fragment)| (path, Some(fragment)));
    let mut segments = path.split('/');
    let authority = segments.next().unwrap_or_default();
    let is_authority = if authority.starts_with("did:") {
        syntax::is_did(authority)
    } else {
        syntax::is_handle(authority)
    };
    is_authority
        && segments.next().is_none_or(syntax::is_nsid)
        && segments.next().is_none_or(syntax::is_rkey)
        && segments.next().is_none()
        && fragment.is_none_or(is_json_pointer)
}

/// A slash and characters of a small set, in which `%` begins a character in UTF-8.
fn is_json_pointer(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~:@!$&')(*+,;=%[]/-".contains(&b);
    text.starts_with('/') && text.bytes().all(allowed) && unescapes(text)
}

/// Whether JavaScript's `decodeURIComponent` takes `text`.
fn unescapes(text: &str) -> bool {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return false;
        };
        bytes.extend(u8::try_from((high << 4) | low));
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// Longest CID in text form, in characters (`MAX_CID_STRING_LENGTH` in `lex-data/cid.ts`).
const MAX_CID: usize = 128;

/// A CID that prints as it is written: version 1 in base 32, or version 0 in base 58.
fn is_cid(text: &str) -> bool {
    if text.len() > MAX_CID {
        return false;
    }
    if text.starts_with('Q') {
        // Version 0 is a bare multihash: SHA-256 (0x12), the length, the digest.
        return base58::decode(text).is_some_and(|bytes| match bytes.as_slice() {
            [0x12, length, digest @ ..] => usize::from(*length) == digest.len(),
            _ => false,
        });
    }
    Link::parse(text).is_some()
}

/// `datetime.ts`: RFC 3339 with capital T and Z, at most 64 characters, no `-00:00`, years 0 to
/// 9999 in UTC, and nothing that JavaScript's `Date` refuses, such as second 60. February 30
/// passes.
fn is_datetime(text: &str) -> bool {
    let hour = text.get(11..13).unwrap_or_default();
    hour != "24" && datetime::normalize(text).is_some()
}

/// `uri.ts`: a word, a colon, and something without white space (as JavaScript has it) that does
/// not begin with a slash unless with two.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let is_space = |c: char| (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}';
    !scheme.is_empty()
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !rest.is_empty()
        && !rest.starts_with('/')
        && !rest.contains(is_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(format: Format, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(format.fits(text), "{text}");
        }
        for text in bad {
            assert!(!format.fits(text), "{text}");
        }
    }

    #[test]
    fn at_uris() {
        check(
            Format::AtUri,
            &[
                "at://did:plc:a",
                "at://a.example",
                "at://did:plc:a/app.bsky.feed.post",
                "at://did:plc:a/a.b.c/k",
                "at://did:plc:a/a.b.c/k#/x%20%C3%BC",
                "at://did:plc:a#/",
            ],
            &[
                "",
                "at://",
                "at://did:plc:a/",
                "at://did:plc:a/a.b.c/",
                "at://did:plc:a/a.b.c/k/",
                "at://did:plc:a/a.b.c/k/l",
                "at://did:plc:a?x=y",
                "at://did:plc:a#",
                "at://did:plc:a#x",
                "at://did:plc:a#/%",
                "at://did:plc:a#/%ff",
                "at://did:plc:a/a.b/k",
                "at://did:plc:a/a.b.c/..",
                "at://a",
                "AT://did:plc:a",
                "at://did:plc:a#/\\",
            ],
        );
    }

    #[test]
    fn cids() {
        check(
            Format::Cid,
            &[
                "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua",
                "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh51",
            ],
            &[
                "",
                "b",
                "Q",
                "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swu",
                "BAFYREIGBTJ4X7IP5LEGNFZNUFUOPL4SG4KNZC2COF6DUAS4B3Q2FY6SWUA",
                "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh5",
                "zdpuAwmPnfy",
                "QmNLei78zWmzUdbeRB3CiUfAizWUrbeeZh5K1rhAQKCh5O",
            ],
        );
    }

    #[test]
    fn datetimes() {
        check(
            Format::Datetime,
            &[
                "2024-01-02T03:04:05Z",
                "2024-02-30T00:00:00.123456789+14:00",
                "0000-01-01T00:00:00Z",
                "9999-12-31T23:59:59.999Z",
            ],
            &[
                "2024-01-02",
                "2024-01-02T03:04:05",
                "2024-01-02t03:04:05Z",
                "2024-01-02T03:04:05z",
                "2024-01-02T24:00:00Z",
                "2024-01-02T03:04:60Z",
                "2024-01-02T03:04:05-00:00",
                "0000-01-01T00:00:00+01:00",
                "9999-12-31T23:59:59-01:00",
                "2024-00-02T03:04:05Z",
                "2024-01-02T03:04:05+2400",
                "",
            ],
        );
    }

    #[test]
    fn uris_and_handles() {
        check(
            Format::Uri,
            &[
                "https://a",
                "mailto:x",
                "a:b",
                "a_1:b",
                "a:b//c",
                "https://ü",
                "a://b\u{85}",
            ],
            &[
                "",
                "a",
                "a:",
                "a://",
                "a:/b",
                "https:///x",
                "a b:c",
                "a:b c",
                "a-b:c",
                ":x",
                "a:b\u{a0}",
                "ü:a",
                "a:\u{feff}",
            ],
        );
        check(
            Format::Handle,
            &["a.b", "alice.Example.com", "4.chan.org", "xn--a.b-c"],
            &[
                "", "a", "a.4", ".a", "a.", "a..b", "-a.b", "a-.b", "a.b_c", "a b.c",
            ],
        );
    }
}
