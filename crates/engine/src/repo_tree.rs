//! A Merkle tree over the stored repos, so that two databases can be compared by a few hashes.
//!
//! A leaf is the hash of a repo's DID, rev and root. Its place follows from the hash of its DID: so
//! the tree does not depend on the order in which repos were loaded, and a repo that changes
//! changes one bucket and the 16 hashes above it. The leaves of a bucket are in the order of DIDs.
//!
//! At 45 million repos a bucket has some 690 leaves. Making the tree reads the ledger once, in the
//! order of DIDs, and takes 8 MB of memory and two hashes per repo. A certificate holds the root
//! and the hashes of one level: 4 KB, whatever the number of repos. The list of repos that may go
//! with it has 120 bytes per repo: 5.4 GB.

use atrepo::Commit;
use data_encoding::HEXLOWER;
use ledger::repos::{self, StoredRepo};
use postgres::Client;
use process::{Database, Failure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Levels of the tree below its root; the last one is that of the buckets.
const DEPTH: u32 = 16;
/// The level whose hashes are in a certificate.
const SHOWN: u32 = 6;
/// Repos that are read from the ledger together.
const PAGE: i64 = 10_000;

/// A hash; of no leaves it is zero.
pub(crate) type Hash = [u8; 32];

/// A repo, as the list beside a certificate has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf<'l> {
    pub(crate) did: &'l str,
    pub(crate) rev: &'l str,
    /// CID of the root of its tree.
    pub(crate) root: &'l str,
    pub(crate) host: &'l str,
}

impl<'l> Leaf<'l> {
    /// The line of the list.
    pub(crate) fn line(&self) -> String {
        let host = if self.host.is_empty() { "-" } else { self.host };
        format!("{} {} {} {host}\n", self.did, self.rev, self.root)
    }

    /// The inverse of [`Leaf::line`].
    pub(crate) fn parse(line: &'l str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut next = || words.next().filter(|word| !word.is_empty());
        let leaf = Self {
            did: next().filter(|did| atrepo::syntax::is_did(did))?,
            rev: next()?,
            root: next()?,
            host: next()?,
        };
        words.next().is_none().then_some(Self {
            host: if leaf.host == "-" { "" } else { leaf.host },
            ..leaf
        })
    }

    fn hash(&self) -> Hash {
        let mut hash = Sha256::new();
        hash.update([0]);
        for part in [self.did, self.rev, self.root] {
            hash.update(part.as_bytes());
            hash.update([0]);
        }
        hash.finalize().into()
    }
}

/// A tree that is being made, from leaves in the order of DIDs.
pub(crate) struct TreeBuilder {
    buckets: Vec<Option<Sha256>>,
    hosts: BTreeMap<String, Sha256>,
    repos: u64,
}

/// The tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepoTree {
    /// Number of leaves.
    pub(crate) repos: u64,
    /// The hash of all.
    pub(crate) root: Hash,
    /// The hashes of the level that a certificate has.
    pub(crate) parts: Vec<Hash>,
    /// By host, a hash of its leaves in the order of DIDs.
    pub(crate) hosts: BTreeMap<String, Hash>,
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self {
            buckets: vec![None; 1 << DEPTH],
            hosts: BTreeMap::new(),
            repos: 0,
        }
    }
}

impl TreeBuilder {
    pub(crate) fn add(&mut self, leaf: &Leaf<'_>) {
        let hash = leaf.hash();
        let place = Sha256::digest(leaf.did.as_bytes());
        let bucket = usize::from(u16::from_be_bytes([place[0], place[1]]));
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.get_or_insert_with(Sha256::new).update(hash);
        }
        match self.hosts.get_mut(leaf.host) {
            Some(host) => host.update(hash),
            None => {
                let host = Sha256::new().chain_update(hash);
                self.hosts.insert(leaf.host.to_owned(), host);
            }
        }
        self.repos += 1;
    }

    pub(crate) fn finish(self) -> RepoTree {
        let end = |hash: Option<Sha256>| hash.map_or([0; 32], |hash| hash.finalize().into());
        let mut level: Vec<Hash> = self.buckets.into_iter().map(end).collect();
        let mut parts = Vec::new();
        for depth in (0..DEPTH).rev() {
            level = level.chunks(2).map(node).collect();
            if depth == SHOWN {
                parts.clone_from(&level);
            }
        }
        RepoTree {
            repos: self.repos,
            root: level.first().copied().unwrap_or_default(),
            parts,
            hosts: self
                .hosts
                .into_iter()
                .map(|(host, hash)| (host, hash.finalize().into()))
                .collect(),
        }
    }
}

/// The hash above two others.
fn node(pair: &[Hash]) -> Hash {
    if pair.iter().all(|hash| *hash == [0; 32]) {
        return [0; 32];
    }
    let mut hash = Sha256::new();
    hash.update([1]);
    pair.iter().for_each(|below| hash.update(below));
    hash.finalize().into()
}

/// As certificates have hashes.
pub(crate) fn hex(hash: &Hash) -> String {
    HEXLOWER.encode(hash)
}

impl RepoTree {
    /// The tree over the stored repos; `each` gets the line of each.
    pub(crate) fn read(
        database: &Database,
        client: &mut Client,
        mut each: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<Self, Failure> {
        let mut builder = TreeBuilder::default();
        let mut after = String::new();
        loop {
            let page = repos::stored_after(client, &database.schema, &after, PAGE)
                .map_err(|error| database.failure(error))?;
            let Some(last) = page.last() else {
                return Ok(builder.finish());
            };
            after.clone_from(&last.did);
            for StoredRepo {
                did,
                host,
                rev,
                commit,
            } in &page
            {
                // What the comparison names as broken has no root.
                let root = Commit::parse(commit).map(|commit| commit.data.to_string());
                let root = root.unwrap_or_else(|_| "broken".to_owned());
                let leaf = Leaf {
                    did,
                    rev,
                    root: &root,
                    host,
                };
                each(&leaf.line())?;
                builder.add(&leaf);
            }
        }
    }

    pub(crate) fn json(&self) -> Value {
        let parts: Vec<String> = self.parts.iter().map(hex).collect();
        let hosts = self
            .hosts
            .iter()
            .map(|(host, hash)| (host.clone(), hex(hash)));
        let hosts: BTreeMap<String, String> = hosts.collect();
        json!({"repos": self.repos, "root": hex(&self.root), "parts": parts, "hosts": hosts})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(revs: &[(&str, &str)]) -> RepoTree {
        let mut builder = TreeBuilder::default();
        for (did, rev) in revs {
            builder.add(&Leaf {
                did,
                rev,
                root: "bafy",
                host: "pds.example",
            });
        }
        builder.finish()
    }

    #[test]
    fn one_repo_changes_the_root_and_one_part() {
        let (one, two) = (("did:plc:a", "3a"), ("did:plc:b", "3b"));
        let both = tree(&[one, two]);
        assert_eq!(both, tree(&[one, two]));
        let changed = tree(&[one, ("did:plc:b", "3c")]);
        assert_ne!(both.root, changed.root);
        let parts = both.parts.iter().zip(&changed.parts);
        assert_eq!(parts.filter(|(a, b)| a != b).count(), 1);
        assert_eq!(both.parts.len(), 1 << SHOWN);
        assert_eq!(tree(&[]).root, [0; 32]);
    }

    #[test]
    fn a_line_reads_back() {
        let leaf = Leaf {
            did: "did:plc:a",
            rev: "3a",
            root: "bafy",
            host: "",
        };
        assert_eq!(Leaf::parse(leaf.line().trim_end()), Some(leaf));
        for bad in [
            "",
            "did:plc:a 3a bafy",
            "did:plc:a 3a bafy - more",
            "x 3a bafy -",
        ] {
            assert_eq!(Leaf::parse(bad), None, "{bad}");
        }
    }
}
