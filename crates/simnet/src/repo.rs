//! Building repos: the MST over records, the commit, the CAR.

use crate::keys::sign_with;
use atrepo::cbor::Writer;
use atrepo::{BlockIndex, Cid, Codec, Commit, mst, syntax};
use std::cell::RefCell;

/// The whole CAR of a repo of `did` at `rev` with `records`, pairs of key and DAG-CBOR.
///
/// # Panics
/// A key is given twice.
#[must_use]
pub fn build_repo(did: &str, rev: &str, records: Vec<(String, Vec<u8>)>) -> Vec<u8> {
    let (root, blocks) = build_blocks(did, 0, rev, records);
    build_car(root, &blocks)
}

/// The blocks of a repo and the CID of its commit, which is the last of them: records first, then
/// nodes. `generation` is that of the key.
pub(crate) fn build_blocks(
    did: &str,
    generation: u32,
    rev: &str,
    records: Vec<(String, Vec<u8>)>,
) -> (Cid, Vec<(Cid, Vec<u8>)>) {
    build_blocks_under(records, |data| {
        build_commit_with(did, generation, rev, data)
    })
}

/// The same under the commit that `commit` makes for the root of the tree.
pub(crate) fn build_blocks_under(
    mut records: Vec<(String, Vec<u8>)>,
    commit: impl FnOnce(&Cid) -> Vec<u8>,
) -> (Cid, Vec<(Cid, Vec<u8>)>) {
    records.sort();
    assert!(
        records.windows(2).all(|pair| pair[0].0 != pair[1].0),
        "a key twice"
    );
    let mut blocks = Vec::with_capacity(records.len() * 2);
    let mut entries = Vec::with_capacity(records.len());
    for (key, bytes) in records {
        debug_assert!(syntax::split_key(key.as_bytes()).is_some(), "{key}");
        let cid = Cid::of(Codec::DagCbor, &bytes);
        entries.push((mst::layer(key.as_bytes()), key, cid));
        blocks.push((cid, bytes));
    }
    let top = entries.iter().map(|(layer, ..)| *layer).max().unwrap_or(0);
    let data = build_node(&entries, top, &mut blocks);
    let commit = commit(&data);
    let root = Cid::of(Codec::DagCbor, &commit);
    blocks.push((root, commit));
    (root, blocks)
}

/// A commit of `did` at `rev` over the tree under `data`, signed with the account's key.
#[must_use]
pub fn build_commit(did: &str, rev: &str, data: &Cid) -> Vec<u8> {
    build_commit_with(did, 0, rev, data)
}

fn build_commit_with(did: &str, generation: u32, rev: &str, data: &Cid) -> Vec<u8> {
    build_commit_fields(did, rev, data, 0, |message| {
        sign_with(did, generation, message)
    })
}

/// A commit with what `sign` makes of it as its signature, and a field `padding` of so many zeros,
/// if that is not 0.
pub(crate) fn build_commit_fields(
    did: &str,
    rev: &str,
    data: &Cid,
    padding: usize,
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let write = |sig: Option<&[u8]>| {
        let mut w = Writer::new();
        w.map(5 + u64::from(sig.is_some()) + u64::from(padding > 0))
            .text("did")
            .text(did)
            .text("rev")
            .text(rev);
        if let Some(sig) = sig {
            w.text("sig").bytes(sig);
        }
        w.text("data").cid(data).text("prev").null();
        if padding > 0 {
            w.text("padding").bytes(&vec![0; padding]);
        }
        w.text("version").integer(3);
        w.into_bytes()
    };
    write(Some(&sign(&write(None))))
}

/// A CAR of `blocks` with one root.
#[must_use]
pub fn build_car(root: Cid, blocks: &[(Cid, Vec<u8>)]) -> Vec<u8> {
    let mut w = Writer::new();
    w.map(2)
        .text("roots")
        .list(1)
        .cid(&root)
        .text("version")
        .integer(1);
    let header = w.into_bytes();
    let mut car = Vec::with_capacity(
        blocks
            .iter()
            .map(|(_, bytes)| bytes.len() + 40)
            .sum::<usize>()
            + 64,
    );
    write_varint(&mut car, header.len());
    car.extend(header);
    for (cid, bytes) in blocks {
        write_section(&mut car, cid, bytes);
    }
    car
}

/// What `com.atproto.sync.getRecord` gives of a repo: the commit, the nodes on the path to `key`,
/// and the record if there is one.
///
/// # Panics
/// `car` is not a whole repo.
#[must_use]
pub fn build_proof(car: &[u8], key: &str) -> Vec<u8> {
    let (root, index) = BlockIndex::build(car).expect("a CAR");
    let block = |cid: &Cid| index.get(cid).expect("a whole repo");
    let commit = Commit::parse(block(&root)).expect("a commit");
    let path = RefCell::new(vec![root]);
    let found = mst::find(commit.data, key.as_bytes(), |cid| {
        path.borrow_mut().push(*cid);
        index.get(cid)
    });
    let mut path = path.into_inner();
    path.extend(found.expect("a whole tree"));
    let blocks: Vec<(Cid, Vec<u8>)> = path.iter().map(|cid| (*cid, block(cid).to_vec())).collect();
    build_car(root, &blocks)
}

/// Appends a section of a CAR.
pub(crate) fn write_section(car: &mut Vec<u8>, cid: &Cid, bytes: &[u8]) {
    write_varint(car, Cid::BYTES + bytes.len());
    car.extend(cid.to_bytes());
    car.extend(bytes);
}

fn write_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// The node of `layer` over `entries`, all of which are of this layer or below. The depth is that
/// of real trees.
fn build_node(entries: &[(u32, String, Cid)], layer: u32, blocks: &mut Vec<(Cid, Vec<u8>)>) -> Cid {
    let mut gaps = entries.split(|(of, ..)| *of == layer);
    let here: Vec<_> = entries.iter().filter(|(of, ..)| *of == layer).collect();
    let mut subtree = |gap: Option<&[(u32, String, Cid)]>| {
        let gap = gap.unwrap_or_default();
        (!gap.is_empty()).then(|| build_node(gap, layer - 1, blocks))
    };
    let left = subtree(gaps.next());
    let rights: Vec<Option<Cid>> = here.iter().map(|_| subtree(gaps.next())).collect();
    let mut w = Writer::new();
    w.map(2).text("e").list(here.len() as u64);
    let mut before: &[u8] = &[];
    for ((_, key, value), right) in here.iter().zip(rights) {
        let shared = key.bytes().zip(before).take_while(|(a, b)| a == *b).count();
        w.map(4)
            .text("k")
            .bytes(&key.as_bytes()[shared..])
            .text("p")
            .unsigned(shared as u64)
            .text("t");
        link_or_null(&mut w, right).text("v").cid(value);
        before = key.as_bytes();
    }
    w.text("l");
    link_or_null(&mut w, left);
    let node = w.into_bytes();
    let cid = Cid::of(Codec::DagCbor, &node);
    blocks.push((cid, node));
    cid
}

fn link_or_null(w: &mut Writer, cid: Option<Cid>) -> &mut Writer {
    match cid {
        Some(cid) => w.cid(&cid),
        None => w.null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atrepo::{Entry, Repo, RepoError};

    #[test]
    fn what_is_built_passes_every_check_and_reads_back() {
        for count in [0usize, 1, 2, 50, 3000] {
            let records: Vec<(String, Vec<u8>)> = (0..count)
                .map(|n| {
                    let mut w = Writer::new();
                    w.map(1).text("n").integer(n as i64);
                    (
                        format!("org.example.thing/{}", syntax::tid(n as u64 * 1000, 0)),
                        w.into_bytes(),
                    )
                })
                .collect();
            let car = build_repo("did:plc:a", &syntax::tid(1, 0), records.clone());
            let repo = Repo::open(&car, "did:plc:a").unwrap();
            assert_eq!(repo.check().unwrap().entries, count as u64);
            let mut found = Vec::new();
            repo.entries(|entry| -> Result<(), RepoError> {
                let Entry::Record {
                    collection,
                    rkey,
                    bytes,
                    ..
                } = entry
                else {
                    panic!("a record")
                };
                found.push((format!("{collection}/{rkey}"), bytes.to_vec()));
                Ok(())
            })
            .unwrap();
            assert_eq!(found, records);
            let mut root = atrepo::RootBuilder::default();
            for (key, bytes) in &records {
                assert!(root.add(key.as_bytes(), Cid::of(Codec::DagCbor, bytes)));
            }
            assert_eq!(root.root(), repo.commit().data);
        }
    }
}
