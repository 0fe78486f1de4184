//! Checks signatures of commits: ECDSA over SHA-256 with secp256k1 or P-256, 64 bytes, low S
//! (<https://atproto.com/specs/cryptography>).

use atrepo::{Commit, base58};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use secp256k1::{Message, PublicKey, ecdsa};
use std::fmt;

/// Why a signature is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// The key in the document is of an unknown kind.
    Key,
    /// The signature is not 64 bytes of ECDSA.
    Malformed,
    /// It has a high S, which is refused: otherwise each signature would have two forms.
    HighS,
    /// This key did not make it over this commit.
    Wrong,
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "the account's key is of an unknown kind",
            Self::Malformed => "it is not 64 bytes of ECDSA",
            Self::HighS => "it has a high S",
            Self::Wrong => "it was not made by the account's key",
        })
    }
}

impl std::error::Error for SignatureError {}

/// A public key.
enum Key {
    Secp256k1(PublicKey),
    P256(p256::ecdsa::VerifyingKey),
}

/// Prefixes of multicodec: `secp256k1-pub` (0xe7) and `p256-pub` (0x1200).
const SECP256K1: &[u8] = &[0xe7, 0x01];
const P256: &[u8] = &[0x80, 0x24];

/// Checks that `key` signed `commit`. The key has the form of
/// [`crate::document::Document::signing_key`] or is a `did:key`.
///
/// # Errors
/// See [`SignatureError`].
pub fn check(key: &str, commit: &Commit) -> Result<(), SignatureError> {
    verify(&read_key(key).ok_or(SignatureError::Key)?, commit)
}

fn verify(key: &Key, commit: &Commit) -> Result<(), SignatureError> {
    let message = commit.unsigned();
    match key {
        Key::Secp256k1(key) => {
            let bytes = <[u8; 64]>::try_from(commit.sig.as_slice());
            let signature = bytes.ok().and_then(|bytes| {
                let signature = ecdsa::Signature::from_compact(&bytes).ok()?;
                Some((signature, bytes))
            });
            let (signature, bytes) = signature.ok_or(SignatureError::Malformed)?;
            let mut low = signature;
            low.normalize_s();
            if low.serialize_compact() != bytes {
                return Err(SignatureError::HighS);
            }
            let hash = digest(&SHA256, &message);
            let hash = <[u8; 32]>::try_from(hash.as_ref()).map_err(|_| SignatureError::Wrong)?;
            ecdsa::verify(&signature, Message::from_digest(hash), key)
                .map_err(|_| SignatureError::Wrong)
        }
        Key::P256(key) => {
            let signature = p256::ecdsa::Signature::from_slice(&commit.sig)
                .map_err(|_| SignatureError::Malformed)?;
            if signature.normalize_s() != signature {
                return Err(SignatureError::HighS);
            }
            // It takes two fifths of the time that the crate p256 takes.
            let point = key.to_sec1_point(false);
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point.as_bytes())
                .verify(&message, &commit.sig)
                .map_err(|_| SignatureError::Wrong)
        }
    }
}

/// Parses a key in one of its written forms.
fn read_key(text: &str) -> Option<Key> {
    let (kind, multibase) = match text.strip_prefix("did:key:") {
        Some(multibase) => ("Multikey", multibase),
        None => text.split_once(' ')?,
    };
    let bytes = base58::decode(multibase.strip_prefix('z')?)?;
    match kind {
        "Multikey" => {
            if let Some(point) = bytes.strip_prefix(SECP256K1) {
                return secp256k1(point);
            }
            let point = bytes.strip_prefix(P256)?;
            p256::ecdsa::VerifyingKey::from_sec1_bytes(point)
                .ok()
                .map(Key::P256)
        }
        // The old forms: the bare, uncompressed point.
        "EcdsaSecp256k1VerificationKey2019" => secp256k1(&bytes),
        "EcdsaSecp256r1VerificationKey2019" => p256::ecdsa::VerifyingKey::from_sec1_bytes(&bytes)
            .ok()
            .map(Key::P256),
        _ => None,
    }
}

/// A point of secp256k1, compressed or not. The library would also take the hybrid form, which the
/// official code refuses.
fn secp256k1(point: &[u8]) -> Option<Key> {
    let is_plain = matches!(
        (point.len(), point.first()),
        (33, Some(2 | 3)) | (65, Some(4))
    );
    let key = is_plain.then(|| PublicKey::from_slice(point).ok())?;
    key.map(Key::Secp256k1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::Repo;
    use k256::ecdsa::signature::Verifier;

    fn commit_of(did: &str) -> Commit {
        let car = simnet::build_repo(did, "3jzfcijpj2z2a", Vec::new());
        Repo::open(&car, did).unwrap().commit().clone()
    }

    #[test]
    fn both_curves_hold_and_nothing_else_does() {
        let mut kinds = std::collections::HashSet::new();
        for number in 0..8 {
            let did = format!("did:plc:a{number}");
            let (key, other) = (
                simnet::signing_key(&did),
                simnet::signing_key("did:plc:other"),
            );
            let commit = commit_of(&did);
            kinds.insert(key.chars().take(5).collect::<String>());
            assert_eq!(check(&format!("did:key:{key}"), &commit), Ok(()), "{key}");
            assert_eq!(check(&format!("Multikey {key}"), &commit), Ok(()));
            assert!(check(&format!("Multikey {other}"), &commit).is_err());
            assert_eq!(check("Multikey zQ3", &commit), Err(SignatureError::Key));
            let mut changed = commit_of(&did);
            changed.block = commit_of("did:plc:else").block;
            assert_eq!(
                check(&format!("Multikey {key}"), &changed),
                Err(SignatureError::Wrong)
            );
            // The same signature with the other S: n - s.
            let mut high = commit.clone();
            high.sig = if key.starts_with("zQ3") {
                let signature = k256::ecdsa::Signature::from_slice(&commit.sig).unwrap();
                let (r, s) = signature.split_scalars();
                k256::ecdsa::Signature::from_scalars(r, -s)
                    .unwrap()
                    .to_bytes()
                    .to_vec()
            } else {
                let signature = p256::ecdsa::Signature::from_slice(&commit.sig).unwrap();
                let (r, s) = signature.split_scalars();
                p256::ecdsa::Signature::from_scalars(r, -s)
                    .unwrap()
                    .to_bytes()
                    .to_vec()
            };
            assert_eq!(
                check(&format!("Multikey {key}"), &high),
                Err(SignatureError::HighS)
            );
            let mut short = commit;
            short.sig.pop();
            assert_eq!(
                check(&format!("Multikey {key}"), &short),
                Err(SignatureError::Malformed)
            );
        }
        assert_eq!(kinds.len(), 2, "both curves: {kinds:?}");
    }

    #[test]
    fn decisions_on_secp256k1_are_those_of_another_library() {
        let judge = |point: &[u8], commit: &Commit| {
            let key = k256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok()?;
            let signature = k256::ecdsa::Signature::from_slice(&commit.sig).ok()?;
            let is_low = signature.normalize_s() == signature;
            (is_low && key.verify(&commit.unsigned(), &signature).is_ok()).then_some(())
        };
        let dids = (0..40).map(|number| format!("did:plc:a{number}"));
        let (mut good, mut random) = (0, simnet::Random::new(7));
        for did in dids {
            let key = simnet::signing_key(&did);
            let Some(point) = base58::decode(&key[1..])
                .unwrap()
                .strip_prefix(SECP256K1)
                .map(<[u8]>::to_vec)
            else {
                continue;
            };
            let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
            let order: Vec<u8> = (0..32)
                .map(|at| u8::from_str_radix(&order[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            for change in 0..60 {
                let (mut commit, mut point) = (commit_of(&did), point.clone());
                match change {
                    0 => {}
                    1 => commit.sig[..32].fill(0),
                    2 => commit.sig[32..].fill(0),
                    3 => commit.sig[..32].copy_from_slice(&order),
                    4 => commit.sig[32..].copy_from_slice(&order),
                    5 => commit.sig.push(0),
                    6 => commit.sig.fill(0xff),
                    7..20 => point[random.index(33)] ^= 1 << random.index(8),
                    _ => commit.sig[random.index(64)] ^= 1 << random.index(8),
                }
                let is_good = secp256k1(&point).is_some_and(|key| verify(&key, &commit).is_ok());
                // A compact form of points that the other library knows is refused.
                assert_eq!(
                    is_good,
                    judge(&point, &commit).is_some() && point[0] != 5,
                    "{change}"
                );
                good += u32::from(is_good);
            }
            let whole = k256::ecdsa::VerifyingKey::from_sec1_bytes(&point).unwrap();
            let mut whole = whole.to_sec1_point(false).as_bytes().to_vec();
            assert!(secp256k1(&whole).is_some_and(|key| verify(&key, &commit_of(&did)).is_ok()));
            for hybrid in [6, 7] {
                whole[0] = hybrid;
                assert!(secp256k1(&whole).is_none(), "{hybrid}");
            }
        }
        assert!(good > 5, "{good}");
    }
}
