//! What a message is: its subject, and the header that says its place in a part.
//!
//! | header `Skyfill-Chunk` | the message |
//! |---|---|
//! | `whole` | a part, or the state of an account, complete |
//! | `open` | the first of an upload; it has no content |
//! | `more N` | piece N of an upload, from 1 |
//! | `last N` | piece N of an upload, and its end |
//!
//! The content of `whole`, and of the pieces of an upload one after the other, is a framed stream
//! ([`handoff::frames`]) of one part or one state.

use sha2::{Digest, Sha256};

/// The header.
pub const CHUNK: &str = "Skyfill-Chunk";
/// The last token of the subject of a message that is complete.
const WHOLE: &str = "whole";
/// Digits of an upload's name.
const NAME_DIGITS: usize = 32;

/// A message's place in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// All of it.
    Whole,
    /// The beginning of an upload.
    Open,
    /// A piece with its number.
    More(u32),
    /// The last piece with its number.
    Last(u32),
}

impl Place {
    /// The header's value.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Whole => WHOLE.to_owned(),
            Self::Open => "open".to_owned(),
            Self::More(number) => format!("more {number}"),
            Self::Last(number) => format!("last {number}"),
        }
    }

    /// Parses the header's value.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok().filter(|number| *number > 0);
        match text.split_once(' ') {
            None if text == WHOLE => Some(Self::Whole),
            None if text == "open" => Some(Self::Open),
            Some(("more", text)) => number(text).map(Self::More),
            Some(("last", text)) => number(text).map(Self::Last),
            _ => None,
        }
    }
}

/// The shard of a repo, of so many.
#[must_use]
pub fn shard_of(did: &str, shards: u32) -> u32 {
    let hash = Sha256::digest(did.as_bytes());
    let number = hash
        .iter()
        .take(8)
        .fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let shard = number.checked_rem(u64::from(shards)).unwrap_or(0);
    u32::try_from(shard).unwrap_or(0)
}

/// The subjects of a shard, as a stream and its consumer name them.
#[must_use]
pub fn subjects(stream: &str, shard: u32) -> String {
    format!("{stream}.repos.{shard}.*")
}

/// The subject of a message: of an upload with this name, or of a complete one.
#[must_use]
pub fn subject(stream: &str, shard: u32, upload: Option<&str>) -> String {
    format!("{stream}.repos.{shard}.{}", upload.unwrap_or(WHOLE))
}

/// The upload that a subject names: `Some(None)` for a complete message, nothing for a subject that
/// no producer uses.
#[must_use]
pub fn upload_of(subject: &str) -> Option<Option<&str>> {
    let (_, name) = subject.rsplit_once('.')?;
    if name == WHOLE {
        return Some(None);
    }
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (name.len() == NAME_DIGITS && name.bytes().all(is_hex)).then_some(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back_and_anything_else_is_none() {
        for place in [
            Place::Whole,
            Place::Open,
            Place::More(1),
            Place::Last(4_000_000_000),
        ] {
            assert_eq!(Place::parse(&place.text()), Some(place));
        }
        for text in [
            "",
            "Whole",
            "open 1",
            "more",
            "more 0",
            "more -1",
            "last 4294967296",
            "last 1 2",
            "more  1",
            "more +",
            "\u{0}",
        ] {
            assert_eq!(Place::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn subjects_say_what_they_are_of() {
        assert_eq!(subject("s", 3, None), "s.repos.3.whole");
        assert_eq!(upload_of("s.repos.3.whole"), Some(None));
        let name = "0123456789abcdef0123456789abcdef";
        assert_eq!(upload_of(&subject("s", 3, Some(name))), Some(Some(name)));
        for other in [
            "",
            "whole",
            "s.repos.3.0123",
            "s.repos.3.0123456789ABCDEF0123456789abcdef",
        ] {
            assert_eq!(upload_of(other), None, "{other}");
        }
    }

    #[test]
    fn repos_are_spread_over_all_shards_and_always_alike() {
        let mut counts = [0; 8];
        for number in 0..800 {
            counts[shard_of(&format!("did:plc:{number}"), 8) as usize] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
        // A producer of another version must come to the same.
        assert_eq!(shard_of("did:plc:a", 8), 7);
    }
}
