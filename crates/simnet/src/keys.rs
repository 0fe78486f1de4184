//! Keys of accounts that do not exist, made from their DIDs: everybody knows them.

use k256::ecdsa::signature::Signer as _;
use sha2::{Digest, Sha256};

enum Key {
    Secp256k1(k256::ecdsa::SigningKey),
    P256(p256::ecdsa::SigningKey),
}

/// One account in four has a P-256 key. Generation 0 is the key that an account begins with.
fn key_of(did: &str, generation: u32) -> Key {
    for salt in 0u8.. {
        let mut hash = Sha256::new().chain_update(did).chain_update([salt]);
        if generation > 0 {
            hash.update(generation.to_be_bytes());
        }
        let secret = hash.finalize();
        if secret[0] & 3 == 0 {
            if let Ok(key) = p256::ecdsa::SigningKey::from_slice(&secret) {
                return Key::P256(key);
            }
        } else if let Ok(key) = k256::ecdsa::SigningKey::from_slice(&secret) {
            return Key::Secp256k1(key);
        }
    }
    unreachable!("one in 2^32 numbers is no key")
}

/// The public key of `did` in multibase, as DID documents have it.
#[must_use]
pub fn signing_key(did: &str) -> String {
    signing_key_of(did, 0)
}

/// The public key of `did` after it was changed `generation` times.
#[must_use]
pub fn signing_key_of(did: &str, generation: u32) -> String {
    let mut bytes;
    match key_of(did, generation) {
        Key::Secp256k1(key) => {
            bytes = vec![0xe7, 0x01];
            bytes.extend_from_slice(key.verifying_key().to_sec1_point(true).as_bytes());
        }
        Key::P256(key) => {
            bytes = vec![0x80, 0x24];
            bytes.extend_from_slice(key.verifying_key().to_sec1_point(true).as_bytes());
        }
    }
    format!("z{}", base58(&bytes))
}

/// The signature of `did` over `message`, 64 bytes, low S.
#[must_use]
pub fn sign(did: &str, message: &[u8]) -> Vec<u8> {
    sign_with(did, 0, message)
}

/// The signature with the key that `did` has after it was changed `generation` times.
#[must_use]
pub fn sign_with(did: &str, generation: u32, message: &[u8]) -> Vec<u8> {
    Signer::of(did, generation).sign(message)
}

/// A key that signs many times.
pub(crate) struct Signer(Key);

impl Signer {
    /// The key that `did` has after it was changed `generation` times.
    pub(crate) fn of(did: &str, generation: u32) -> Self {
        Self(key_of(did, generation))
    }

    /// The signature over `message`, 64 bytes, low S.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Key::Secp256k1(key) => {
                let signature: k256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().to_bytes().to_vec()
            }
            Key::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.normalize_s().to_bytes().to_vec()
            }
        }
    }
}

fn base58(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut digits: Vec<u8> = Vec::new();
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in &mut digits {
            carry += u32::from(*digit) << 8;
            *digit = u8::try_from(carry % 58).unwrap_or(0);
            carry /= 58;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 58).unwrap_or(0));
            carry /= 58;
        }
    }
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let zeros = std::iter::repeat_n('1', zeros);
    let digits = digits
        .iter()
        .rev()
        .map(|digit| char::from(DIGITS[usize::from(*digit)]));
    zeros.chain(digits).collect()
}
