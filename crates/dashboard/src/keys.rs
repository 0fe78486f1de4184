//! Who may read a dashboard that needs a token: the token itself, a cookie that stands for it, and
//! a link that gives that cookie once.
//!
//! Secrets are compared by their SHA-256 in constant time, so that neither content nor length shows
//! in the time that an answer takes.

use data_encoding::BASE64URL_NOPAD;
use process::Failure;
use sha2::{Digest, Sha256};
use std::env::VarError;
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;

/// Shortest token that is accepted: what is shorter can be guessed.
const SHORTEST: usize = 16;
/// Variable that holds the token.
const VARIABLE: &str = "SKYFILL_LISTEN_TOKEN";
/// Browsers that may be signed in at once; the next one takes the place of the first.
const MOST_COOKIES: usize = 64;
/// How long the link is good.
const LINK: Duration = Duration::from_secs(15 * 60);

/// A secret, as it is kept.
#[derive(Clone)]
struct Hidden([u8; 32]);

impl Hidden {
    fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    fn is(&self, secret: &[u8]) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}

/// The token that a dashboard asks for.
#[derive(Clone)]
pub struct Token(Hidden);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadToken;

impl fmt::Display for BadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the token is too short or has characters other than visible ASCII; it needs at least {SHORTEST}"
        )
    }
}

impl std::error::Error for BadToken {}

impl Token {
    /// The token of a text; white space around it does not count.
    ///
    /// # Errors
    /// It is too short, or cannot stand in a header.
    pub fn parse(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.len() < SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadToken);
        }
        Ok(Self(Hidden::of(text.as_bytes())))
    }

    /// The token of a file, else that of the environment, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or what stands there is no token.
    pub fn find(file: Option<&Path>) -> Result<Option<Self>, Failure> {
        let (text, place) = match (file, std::env::var(VARIABLE)) {
            (Some(path), _) => {
                let place = format!("--listen-token-file {}", path.display());
                let text = std::fs::read_to_string(path)
                    .map_err(|error| Failure::usage(format!("{place}: {error}")))?;
                (text, place)
            }
            (None, Ok(text)) if !text.is_empty() => (text, VARIABLE.to_owned()),
            (None, Err(VarError::NotUnicode(_))) => (String::new(), VARIABLE.to_owned()),
            (None, _) => return Ok(None),
        };
        let token = Self::parse(&text).map_err(|error| {
            Failure::usage(format!("{place}: {error}")).hint("make one with: openssl rand -hex 24")
        })?;
        Ok(Some(token))
    }
}

/// The keys of a dashboard.
pub(crate) struct Keys {
    token: Option<Token>,
    link: Mutex<Option<(Hidden, Instant)>>,
    cookies: Mutex<Vec<Hidden>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A secret that nobody guesses. Without random numbers there is none.
fn random() -> Option<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).ok()?;
    Some(BASE64URL_NOPAD.encode(&bytes))
}

impl Keys {
    pub(crate) fn new(token: Option<Token>) -> Self {
        Self {
            token,
            link: Mutex::default(),
            cookies: Mutex::default(),
        }
    }

    /// Whether nobody needs a key.
    pub(crate) fn is_open(&self) -> bool {
        self.token.is_none()
    }

    /// The key of a link that is good once.
    pub(crate) fn make_link(&self, now: Instant) -> Option<String> {
        let key = random()?;
        *lock(&self.link) = Some((Hidden::of(key.as_bytes()), now + LINK));
        Some(key)
    }

    /// Takes the key of a link for a cookie.
    pub(crate) fn take_link(&self, key: &str, now: Instant) -> Option<String> {
        let mut link = lock(&self.link);
        let (hidden, until) = link.as_ref()?;
        if now >= *until || !hidden.is(key.as_bytes()) {
            return None;
        }
        *link = None;
        drop(link);
        self.make_cookie()
    }

    /// A cookie, for whoever showed the token or the link.
    pub(crate) fn make_cookie(&self) -> Option<String> {
        let cookie = random()?;
        let mut cookies = lock(&self.cookies);
        if cookies.len() >= MOST_COOKIES {
            cookies.remove(0);
        }
        cookies.push(Hidden::of(cookie.as_bytes()));
        Some(cookie)
    }

    /// Whether it is the token.
    pub(crate) fn is_token(&self, text: &str) -> bool {
        self.token
            .as_ref()
            .is_some_and(|token| token.0.is(text.as_bytes()))
    }

    /// Whether it is a cookie that was given.
    pub(crate) fn is_cookie(&self, text: &str) -> bool {
        // All are looked at, whichever fits.
        let fits = |found, cookie: &Hidden| found | cookie.is(text.as_bytes());
        lock(&self.cookies).iter().fold(false, fits)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_good_once_and_for_a_while() {
        let token = Token::parse(" 0123456789abcdef\n").unwrap();
        let keys = Keys::new(Some(token));
        let now = Instant::now();
        assert!(keys.is_token("0123456789abcdef") && !keys.is_token("0123456789abcdeg"));
        assert!(!keys.is_token("") && !keys.is_cookie(""));
        assert!(keys.take_link("", now).is_none());
        let key = keys.make_link(now).unwrap();
        assert!(keys.take_link(&key, now + LINK).is_none());
        assert!(keys.take_link("wrong", now).is_none());
        let cookie = keys.take_link(&key, now).unwrap();
        assert!(keys.take_link(&key, now).is_none());
        assert!(keys.is_cookie(&cookie) && !keys.is_cookie(&key));
        for _ in 0..MOST_COOKIES {
            keys.make_cookie().unwrap();
        }
        assert!(!keys.is_cookie(&cookie));
        assert_eq!(lock(&keys.cookies).len(), MOST_COOKIES);
    }

    #[test]
    fn what_can_be_guessed_is_no_token() {
        for text in [
            "",
            "short",
            "fifteen-letters",
            "with a blank in the midst",
            "höchstgeheimes-wort",
        ] {
            assert_eq!(Token::parse(text).err(), Some(BadToken), "{text}");
        }
        let shown = format!("{:?}", Token::parse("0123456789abcdef").unwrap());
        assert_eq!(shown, "Token");
    }
}
