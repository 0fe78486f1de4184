//! The signed commit of a repo, version 3 (<https://atproto.com/specs/repository#commit-objects>).

use crate::cbor::{self, Value, Writer};
use crate::cid::Cid;
use crate::limits::MAX_COMMIT_BYTES;
use crate::syntax;

/// A commit whose fields are well-formed. The signature is kept, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The account.
    pub did: String,
    /// Revision of the repo, a TID.
    pub rev: String,
    /// Root node of the MST.
    pub data: Cid,
    /// The signature, 64 bytes in practice.
    pub sig: Vec<u8>,
    /// The block that the commit was read from.
    pub block: Vec<u8>,
}

impl Commit {
    /// Parses a commit block.
    ///
    /// # Errors
    /// The field that is missing or wrong.
    pub fn parse(block: &[u8]) -> Result<Self, &'static str> {
        if block.len() > MAX_COMMIT_BYTES {
            return Err("it has more than 4096 bytes");
        }
        let map = cbor::check(block)
            .ok()
            .and_then(|item| item.as_map())
            .ok_or("no canonical DAG-CBOR map")?;
        match map.get("version").map(|v| v.value()) {
            Some(Value::Unsigned(3)) => {}
            Some(Value::Unsigned(2)) => return Err("version 2, an old export without a rev"),
            _ => return Err("not version 3"),
        }
        let text = |key| map.get(key).and_then(|v| v.as_text());
        let did = text("did")
            .filter(|did| syntax::is_did(did))
            .ok_or("no valid did")?;
        let rev = text("rev")
            .filter(|rev| syntax::tid_micros(rev).is_some())
            .ok_or("no valid rev")?;
        let Some(Value::Link(data)) = map.get("data").map(|v| v.value()) else {
            return Err("no data link");
        };
        let data =
            Cid::from_bytes(data.as_bytes()).ok_or("a data link that is no CIDv1 of SHA-256")?;
        let Some(Value::Bytes(sig)) = map.get("sig").map(|v| v.value()) else {
            return Err("no signature");
        };
        Ok(Self {
            did: did.to_owned(),
            rev: rev.to_owned(),
            data,
            sig: sig.to_vec(),
            block: block.to_vec(),
        })
    }

    /// The bytes that the signature covers: the commit without its signature
    /// (<https://atproto.com/specs/repository#commit-objects>).
    #[must_use]
    pub fn unsigned(&self) -> Vec<u8> {
        let mut w = Writer::new();
        if let Some(map) = cbor::check(&self.block).ok().and_then(|item| item.as_map()) {
            let fields: Vec<_> = map.filter(|(key, _)| *key != "sig").collect();
            w.map(u64::try_from(fields.len()).unwrap_or(u64::MAX));
            for (key, item) in fields {
                w.text(key).raw(item.as_bytes());
            }
        }
        w.into_bytes()
    }
}
