//! Hostile input: records, commits, CARs, pages of lists, and encodings that cost a careless reader
//! far more than they cost their sender.
//!
//! Each function makes one of them, of the size that its arguments say. The practice network serves
//! them as faults ([`crate::Fault`]); tests can make them one by one. All of them are well-formed
//! unless the documentation of the function says what is wrong with it.

pub mod car;
pub mod commit;
pub mod encoding;
pub mod page;
pub mod record;

use crate::Random;

/// `length` random letters and digits: text that does not compress.
#[must_use]
pub fn noise(seed: u64, length: usize) -> String {
    const CHARACTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = Random::new(seed);
    let character = |_| char::from(CHARACTERS[random.index(CHARACTERS.len())]);
    (0..length).map(character).collect()
}

/// A DID that no directory knows, another one for each `seed` and `number`.
#[must_use]
pub fn invented_did(seed: u64, number: u64) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = Random::new(seed ^ number.wrapping_mul(0x9fb2_1c65_1e98_df25));
    let id: String = (0..24)
        .map(|_| char::from(DIGITS[random.index(32)]))
        .collect();
    format!("did:plc:{id}")
}

/// Sequences that change how a terminal shows what follows: they clear the screen, name the window,
/// color, and go back to the beginning of the line.
pub const ESCAPES: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}[31m\r\u{9b}1A";

/// The same as a text in JSON has it.
pub const ESCAPES_IN_JSON: &str = r"\u001b[2J\u001b]0;owned\u0007\u001b[31m\r\u009b1A";

#[cfg(test)]
mod tests {
    use super::{ESCAPES, ESCAPES_IN_JSON};

    #[test]
    fn escapes_are_the_same_in_json() {
        let text: String = serde_json::from_str(&format!("\"{ESCAPES_IN_JSON}\"")).unwrap();
        assert_eq!(text, ESCAPES);
    }
}
