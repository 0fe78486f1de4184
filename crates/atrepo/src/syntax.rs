//! Identifiers of the protocol: DID, handle, NSID, record key, TID, and the `collection/rkey` path
//! of the MST (<https://atproto.com/specs>).

/// Longest DID, handle, NSID and record key that the specifications allow, in bytes.
const MAX_DID: usize = 2048;
const MAX_HANDLE: usize = 253;
const MAX_NSID: usize = 317;
const MAX_RKEY: usize = 512;

/// Whether `text` is a DID: `did:method:identifier`.
#[must_use]
pub fn is_did(text: &str) -> bool {
    let Some((method, id)) = text
        .strip_prefix("did:")
        .and_then(|rest| rest.split_once(':'))
    else {
        return false;
    };
    text.len() <= MAX_DID
        && !method.is_empty()
        && method.bytes().all(|b| b.is_ascii_lowercase())
        && !id.is_empty()
        && !id.ends_with([':', '%'])
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._:%-".contains(&b))
}

/// Whether `text` is a label of a domain name.
fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Whether `text` is a handle: a domain name of at least two labels, the last of which begins with
/// a letter.
#[must_use]
pub fn is_handle(text: &str) -> bool {
    text.len() <= MAX_HANDLE
        && text.split('.').all(is_label)
        && text
            .rsplit_once('.')
            .is_some_and(|(_, last)| last.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Whether `text` is an NSID, the name of a collection.
#[must_use]
pub fn is_nsid(text: &str) -> bool {
    let Some((authority, name)) = text.rsplit_once('.') else {
        return false;
    };
    let starts_with_letter = |s: &str| s.starts_with(|c: char| c.is_ascii_alphabetic());
    text.len() <= MAX_NSID
        && authority.contains('.')
        && authority.split('.').all(is_label)
        && starts_with_letter(authority)
        && starts_with_letter(name)
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Whether `text` is a record key.
#[must_use]
pub fn is_rkey(text: &str) -> bool {
    (1..=MAX_RKEY).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._:~-".contains(&b))
}

/// Splits an MST key into collection and rkey; `None` if one of them is not valid.
#[must_use]
pub fn split_key(key: &[u8]) -> Option<(&str, &str)> {
    split_key_like(key, "")
}

/// As [`split_key`], for consecutive keys: `before` is a collection that is known to be valid,
/// usually that of the previous key.
#[must_use]
pub fn split_key_like<'k>(key: &'k [u8], before: &str) -> Option<(&'k str, &'k str)> {
    let (collection, rkey) = std::str::from_utf8(key).ok()?.split_once('/')?;
    let is_valid = (!before.is_empty() && collection == before) || is_nsid(collection);
    (is_valid && is_rkey(rkey)).then_some((collection, rkey))
}

/// The time in a TID, in microseconds since 1970; `None` if `text` is not a TID (13 characters of
/// sortable base 32, of which the first leaves the top bit clear).
#[must_use]
pub fn tid_micros(text: &str) -> Option<u64> {
    if text.len() != 13 || !matches!(text.bytes().next(), Some(b'2'..=b'7' | b'a'..=b'j')) {
        return None;
    }
    let mut value = 0u64;
    for byte in text.bytes() {
        let digit = match byte {
            b'2'..=b'7' => byte.wrapping_sub(b'2'),
            b'a'..=b'z' => byte.wrapping_sub(b'a').wrapping_add(6),
            _ => return None,
        };
        value = (value << 5) | u64::from(digit);
    }
    Some(value >> 10)
}

/// The TID for `micros` microseconds since 1970, with the clock identifier `clock` (10 bits).
#[must_use]
pub fn tid(micros: u64, clock: u64) -> String {
    const DIGITS: &[u8; 32] = b"234567abcdefghijklmnopqrstuvwxyz";
    let value = (micros << 10) | (clock & 0x3ff);
    (0..13u32)
        .rev()
        .map(|place| {
            let digit = value.checked_shr(place.saturating_mul(5)).unwrap_or(0) & 31;
            usize::try_from(digit)
                .ok()
                .and_then(|d| DIGITS.get(d))
                .map_or('2', |&d| char::from(d))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_only_when_both_halves_are_valid() {
        assert_eq!(
            split_key(b"app.bsky.feed.post/3k"),
            Some(("app.bsky.feed.post", "3k"))
        );
        for bad in [
            "app.bsky.feed.post",
            "app.bsky.feed.post/",
            "a.b/c",
            "app.bsky.feed.post/a/b",
            "app.bsky.feed.post/..",
        ] {
            assert_eq!(split_key(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(split_key(b"app.bsky.feed.post/a\0"), None);
        assert_eq!(split_key(b"app.bsky.feed.post/\xff"), None);
    }

    #[test]
    fn tids_go_both_ways() {
        assert_eq!(
            tid_micros(&tid(1_700_000_000_000_000, 7)),
            Some(1_700_000_000_000_000)
        );
        assert_eq!(tid_micros("2222222222222"), Some(0));
        assert_eq!(tid_micros("zzzzzzzzzzzzz"), None);
        assert_eq!(tid_micros("3jzfcijpj2z2"), None);
    }

    #[test]
    fn dids_and_nsids() {
        assert!(is_did("did:plc:4uz2445cjiw7w4nobfgnu35f"));
        assert!(is_did("did:web:example.com%3A8080"));
        assert!(
            !is_did("did:plc:")
                && !is_did("DID:plc:a")
                && !is_did("did:PLC:a")
                && !is_did("did:plc:a b")
        );
        assert!(is_nsid("app.bsky.feed.post") && is_nsid("a-0.b-1.c"));
        assert!(
            !is_nsid("app.bsky")
                && !is_nsid("app.bsky.feed-post")
                && !is_nsid("4pp.bsky.feed.post")
                && !is_nsid("a..b.c")
        );
    }
}
