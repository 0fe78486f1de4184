//! Parses DID documents as `@atproto/identity` does (`did/atproto-data.ts`; `did-doc.ts` of
//! `@atproto/common-web`).

use crate::lenient::{Kept, Text};
use serde::Deserialize;
use std::fmt;

/// The parts of a document that an AppView needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The claimed handle, as written. Without one, the account has no handle that could be
    /// verified.
    pub handle: Option<String>,
    /// URL of its PDS.
    pub pds: String,
    /// Its signing key in multibase, with the type of the verification method before it: `Multikey
    /// z...`.
    pub signing_key: String,
}

/// Why a document is unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentError {
    /// It is not a DID document, or belongs to another DID.
    Malformed(String),
    /// This part is missing. The official code then writes nothing about the account.
    Lacks(&'static str),
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => {
                write!(
                    f,
                    "not a DID document of this account: {}",
                    observe::printable(what)
                )
            }
            Self::Lacks(what) => write!(f, "the DID document lacks {what}"),
        }
    }
}

impl std::error::Error for DocumentError {}

#[derive(Deserialize)]
struct Written {
    id: String,
    #[serde(default, rename = "alsoKnownAs")]
    also_known_as: Vec<String>,
    #[serde(default, rename = "verificationMethod")]
    verification_method: Vec<Method>,
    #[serde(default)]
    service: Vec<Service>,
}

#[derive(Deserialize)]
struct Method {
    id: String,
    r#type: String,
    #[serde(rename = "controller")]
    _controller: String,
    #[serde(rename = "publicKeyMultibase")]
    public_key: Option<String>,
}

#[derive(Deserialize)]
struct Service {
    id: String,
    r#type: String,
    #[serde(rename = "serviceEndpoint")]
    endpoint: Kept<Text>,
}

/// Parses the document of `did`.
///
/// # Errors
/// See [`DocumentError`].
pub fn parse(json: &[u8], did: &str) -> Result<Document, DocumentError> {
    let written: Written = serde_json::from_slice(json)
        .map_err(|error| DocumentError::Malformed(error.to_string()))?;
    if written.id != did {
        return Err(DocumentError::Malformed("its id is another one".to_owned()));
    }
    // An id is written in full or as a fragment alone; the first match counts.
    let is = |id: &str, fragment: &str| {
        id == fragment || id.strip_prefix(did).is_some_and(|rest| rest == fragment)
    };
    let key = written
        .verification_method
        .iter()
        .find(|method| is(&method.id, "#atproto"))
        .and_then(|method| Some((method.r#type.as_str(), method.public_key.as_deref()?)));
    let handle = written
        .also_known_as
        .iter()
        .find_map(|alias| alias.strip_prefix("at://"));
    let pds = written
        .service
        .iter()
        .find(|service| is(&service.id, "#atproto_pds"))
        .filter(|service| service.r#type == "AtprotoPersonalDataServer")
        .and_then(|service| service.endpoint.0.as_deref());
    of_parts(key, handle, pds)
}

/// The document with these parts.
pub(crate) fn of_parts(
    key: Option<(&str, &str)>,
    handle: Option<&str>,
    pds: Option<&str>,
) -> Result<Document, DocumentError> {
    let (kind, key) = key.ok_or(DocumentError::Lacks("a signing key"))?;
    if !is_key(kind, key) {
        return Err(DocumentError::Lacks("a signing key of a known form"));
    }
    let signing_key = format!("{kind} {key}");
    let pds = pds.ok_or(DocumentError::Lacks("a PDS"))?;
    if !is_url(pds) {
        return Err(DocumentError::Lacks("a PDS with a usable URL"));
    }
    // A text that cannot be a handle is not stored.
    let handle = handle
        .filter(|handle| !handle.is_empty() && handle.len() <= MAX_HANDLE && is_plain(handle));
    Ok(Document {
        handle: handle.map(str::to_owned),
        pds: without_credentials(pds),
        signing_key,
    })
}

/// Longest key in text form; real ones have 49 characters, uncompressed ones 89.
const MAX_KEY: usize = 128;

/// Whether `key` is of a kind that the protocol knows: secp256k1 or P-256, in base 58.
fn is_key(kind: &str, key: &str) -> bool {
    let Some(bytes) = key
        .strip_prefix('z')
        .filter(|_| key.len() <= MAX_KEY)
        .and_then(atrepo::base58::decode)
    else {
        return false;
    };
    match kind {
        // Multicodec secp256k1-pub and p256-pub, then a compressed point.
        "Multikey" => {
            matches!(bytes.as_slice(), [0xe7, 0x01, 2 | 3, rest @ ..] | [0x80, 0x24, 2 | 3, rest @ ..] if rest.len() == 32)
        }
        "EcdsaSecp256k1VerificationKey2019" | "EcdsaSecp256r1VerificationKey2019" => {
            matches!(bytes.as_slice(), [2 | 3, rest @ ..] if rest.len() == 32)
                || matches!(bytes.as_slice(), [4, rest @ ..] if rest.len() == 64)
        }
        _ => false,
    }
}

/// Longest handle (<https://atproto.com/specs/handle>), and longest URL of a PDS that is accepted.
const MAX_HANDLE: usize = 253;
const MAX_URL: usize = 2048;

fn is_plain(text: &str) -> bool {
    !text.contains(char::is_control)
}

fn is_url(text: &str) -> bool {
    text.len() <= MAX_URL
        && is_plain(text)
        && url::Url::parse(text).is_ok_and(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.host_str().is_some_and(|host| !host.is_empty())
        })
}

/// The URL without user name and password: a document must not make skyfill send requests in
/// somebody's name.
fn without_credentials(pds: &str) -> String {
    let mut url = match url::Url::parse(pds) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => url,
        _ => return pds.to_owned(),
    };
    // A URL with a host takes both.
    let _is_done = url.set_username("").and_then(|()| url.set_password(None));
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r##"{"@context":[],"id":"did:plc:a","alsoKnownAs":["https://x","at://Alice.Example"],
        "verificationMethod":[{"id":"did:plc:a#atproto","type":"Multikey","controller":"did:plc:a",
            "publicKeyMultibase":"zQ3shUMvyB5nKMuXazrBW94EwnLoMRrXMu3vXmHq7utJzfcK8"}],
        "service":[{"id":"#atproto_pds","type":"AtprotoPersonalDataServer","serviceEndpoint":"https://pds.example"}]}"##;

    #[test]
    fn a_document_needs_a_key_and_a_pds() {
        let parse_with =
            |from: &str, to: &str| parse(GOOD.replace(from, to).as_bytes(), "did:plc:a");
        let good = parse_with("", "").unwrap();
        assert_eq!(
            (good.handle.as_deref(), good.pds.as_str()),
            (Some("Alice.Example"), "https://pds.example")
        );
        assert!(parse_with("did:plc:a#atproto", "#atproto").is_ok());
        let with_password = parse_with("https://pds", "https://me:secret@pds").unwrap();
        assert_eq!(with_password.pds, "https://pds.example/");
        assert_eq!(parse_with("at://", "ftp://").unwrap().handle, None);
        assert_eq!(parse_with("Alice", "A\\u0000lice").unwrap().handle, None);
        assert_eq!(parse_with("Alice", &"a".repeat(300)).unwrap().handle, None);
        for (from, to, lacks) in [
            ("#atproto\"", "#other\"", "a signing key"),
            ("Multikey", "Unknown", "a signing key of a known form"),
            ("zQ3sh", "zQ3s", "a signing key of a known form"),
            ("#atproto_pds", "#pds", "a PDS"),
            ("AtprotoPersonalDataServer", "Other", "a PDS"),
            (
                "https://pds.example",
                "pds.example",
                "a PDS with a usable URL",
            ),
            (
                "https://pds.example",
                "https://pds.example/\\u0000",
                "a PDS with a usable URL",
            ),
            ("\"https://pds.example\"", "{}", "a PDS"),
        ] {
            assert_eq!(
                parse_with(from, to),
                Err(DocumentError::Lacks(lacks)),
                "{from}"
            );
        }
        assert!(matches!(
            parse_with("\"did:plc:a\",\"also", "\"did:plc:b\",\"also"),
            Err(DocumentError::Malformed(_))
        ));
        assert!(matches!(
            parse(b"<html>", "did:plc:a"),
            Err(DocumentError::Malformed(_))
        ));
    }
}
