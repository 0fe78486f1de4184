//! `atrepo` on real and hostile repos of the shared corpus. The tests stand here and not with the
//! crate because the crate is published, and the corpus is not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use atrepo::sync::{Action, Op, root_before};
use atrepo::{Cid, Repo, RepoError};
use simnet::{Tree, Write};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use testbed::{material, needs_shared, shared};

fn manifest(path: PathBuf) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).expect("manifest");
    let value: serde_json::Value = serde_json::from_str(&text).expect("manifest is JSON");
    value["files"].as_array().expect("files").clone()
}

needs_shared! {
    fn complete_real_repos_pass_and_hold_what_the_manifest_counts() {
        let dir = shared("corpus");
        let mut passed = 0;
        for file in manifest(dir.join("manifest.json")) {
            let (name, did) = (
                file["file"].as_str().unwrap(),
                file["did"].as_str().unwrap_or_default(),
            );
            let car = fs::read(dir.join(name)).unwrap();
            let outcome = Repo::open(&car, did).and_then(|repo| repo.check());
            let complete = file["parses_fully"] == true
                && file["commit_version"] == 3
                && file["missing_record_blocks"] == 0;
            match outcome {
                Ok(summary) => {
                    assert!(complete, "{name} passed but is not complete");
                    assert_eq!(Some(summary.entries), file["records"].as_u64(), "{name}");
                    assert_eq!(summary.unusable, 0, "{name}");
                    passed += 1;
                }
                Err(error) => assert!(!complete, "{name}: {error}"),
            }
        }
        assert!(passed >= 9, "only {passed} repos passed");
    }

    fn every_tree_of_the_mst_test_suite_walks_in_order() {
        let dir = shared("corpus");
        let mut trees = 0;
        let mut folders = vec![dir.join("vectors/mst-test-suite/cars")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let car = fs::read(&path).unwrap();
                let (root, blocks) = atrepo::BlockIndex::build(&car).unwrap();
                let mut before = Vec::new();
                atrepo::mst::walk(
                    root,
                    |cid| blocks.get(cid),
                    |leaf| -> Result<(), RepoError> {
                        assert!(before.as_slice() < leaf.key, "{}", path.display());
                        before = leaf.key.to_vec();
                        Ok(())
                    },
                )
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                trees += 1;
            }
        }
        assert!(trees >= 128, "{trees} trees");
    }

    fn syntax_agrees_with_the_interop_vectors() {
        let dir = shared("corpus/vectors/atproto-interop-tests/syntax");
        let lines = |name: &str| -> Vec<String> {
            let text = fs::read_to_string(dir.join(name)).unwrap();
            text.lines()
                .filter(|l| !l.is_empty() && !l.starts_with('#'))
                .map(str::to_owned)
                .collect()
        };
        let kinds: [(&str, fn(&str) -> bool); 4] = [
            ("did", atrepo::syntax::is_did),
            ("nsid", atrepo::syntax::is_nsid),
            ("recordkey", atrepo::syntax::is_rkey),
            ("tid", |t| atrepo::syntax::tid_micros(t).is_some()),
        ];
        for (kind, valid) in kinds {
            for line in lines(&format!("{kind}_syntax_valid.txt")) {
                assert!(valid(&line), "{kind} {line:?} is valid");
            }
            for line in lines(&format!("{kind}_syntax_invalid.txt")) {
                assert!(!valid(&line), "{kind} {line:?} is invalid");
            }
        }
    }
}

#[test]
fn hostile_repos_end_as_their_manifest_says() {
    let dir = material("hostile");
    for file in manifest(dir.join("manifest.json")) {
        let name = file["file"].as_str().unwrap();
        if name.starts_with("json/") {
            continue;
        }
        let car = fs::read(dir.join(name)).unwrap();
        let outcome = Repo::open(&car, file["did"].as_str().unwrap()).and_then(|repo| repo.check());
        match (file["expect"].as_str().unwrap(), outcome) {
            ("reject_repo", Err(_)) => {}
            ("skip_record", Ok(summary)) => assert_eq!(summary.unusable, 1, "{name}"),
            ("accept", Ok(summary)) => assert_eq!(summary.unusable, 0, "{name}"),
            ("either", Ok(_)) => assert!(
                !matches!(
                    name,
                    "011_trailing_garbage.car" | "310_mst_extra_fields.car"
                ),
                "{name}"
            ),
            ("either", Err(error)) => match name {
                "011_trailing_garbage.car" => assert!(matches!(
                    error,
                    RepoError::BlockName { .. }
                        | RepoError::Truncated { .. }
                        | RepoError::Length { .. }
                )),
                "310_mst_extra_fields.car" => assert!(matches!(error, RepoError::Mst { .. })),
                _ => panic!("{name}: {error}"),
            },
            (expected, outcome) => panic!("{name}: expected {expected}, got {outcome:?}"),
        }
    }
}

/// The blocks of a CAR by the text of their CIDs, and its root.
fn blocks_of(path: &std::path::Path) -> (Cid, BTreeMap<String, (Cid, Vec<u8>)>) {
    let car = fs::read(path).unwrap();
    let (root, blocks) = atrepo::Blocks::open(&car).unwrap();
    let block = |block: Result<(Cid, usize, &[u8]), RepoError>| {
        let (cid, _, bytes) = block.unwrap();
        (cid.to_string(), (cid, bytes.to_vec()))
    };
    (root, blocks.map(block).collect())
}

fn cid_of(text: &serde_json::Value) -> Option<Cid> {
    Cid::from_bytes(&atrepo::Link::parse(text.as_str()?).unwrap())
}

fn op_of(path: &str, cid: Option<Cid>, prev: Option<Cid>) -> Op {
    let (collection, rkey) = path.split_once('/').unwrap();
    Op {
        action: match (cid, prev) {
            (Some(_), None) => Action::Create,
            (Some(_), Some(_)) => Action::Update,
            _ => Action::Delete,
        },
        collection: collection.to_owned(),
        rkey: rkey.to_owned(),
        cid,
        prev,
    }
}

/// The files of a packed archive that end in `.json`.
fn packed_json(archive: &std::path::Path) -> Vec<serde_json::Value> {
    let (mut tar, mut found) = (Vec::new(), Vec::new());
    let packed = fs::File::open(archive).unwrap();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut tar)
        .unwrap();
    let mut rest = &tar[..];
    while let Some((header, after)) = rest.split_at_checked(512) {
        let text = |range: std::ops::Range<usize>| {
            let field = &header[range];
            let end = field
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).trim().to_owned()
        };
        let size = usize::from_str_radix(&text(124..136), 8).unwrap_or(0);
        if text(0..100).ends_with(".json") {
            found.push(serde_json::from_slice(&after[..size]).unwrap());
        }
        rest = after.get(size.next_multiple_of(512)..).unwrap_or_default();
    }
    found
}

needs_shared! {
    fn changes_of_the_mst_test_suite_are_taken_back_with_no_more_nodes_than_it_names() {
        let dir = shared("corpus/vectors/mst-test-suite");
        let mut trees = BTreeMap::new();
        let mut tree = |name: &serde_json::Value| {
            let name = name.as_str().unwrap().to_owned();
            let blocks = trees.entry(name.clone());
            blocks.or_insert_with(|| blocks_of(&dir.join(name))).clone()
        };
        let mut checked = 0;
        for case in packed_json(&dir.join("tests-diff.tar.gz")) {
            let (before, _) = tree(&case["inputs"]["mst_a"]);
            let (after, blocks) = tree(&case["inputs"]["mst_b"]);
            let results = &case["results"];
            let ops: Vec<Op> = results["record_ops"].as_array().unwrap().iter().map(|op| {
                let path = op["rpath"].as_str().unwrap();
                op_of(path, cid_of(&op["new_value"]), cid_of(&op["old_value"]))
            }).collect();
            let named = results["inductive_proof_nodes"].as_array().unwrap().iter();
            let nodes: BTreeMap<Cid, &[u8]> = named
                .map(|cid| &blocks[cid.as_str().unwrap()])
                .map(|(cid, block)| (*cid, &block[..]))
                .collect();
            let found = root_before(after, &ops, |cid| nodes.get(cid).copied());
            assert_eq!(found, Ok(before), "{}", case["description"]);
            checked += 1;
        }
        assert_eq!(checked, 16_384);
    }

    fn the_official_proofs_of_commits_suffice_and_those_of_the_practice_network_hold_them() {
        let path = shared("corpus/vectors/atproto-interop-tests/firehose/commit-proof-fixtures.json");
        let cases: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let cases = cases.as_array().unwrap();
        for case in cases {
            let comment = &case["comment"];
            let texts = |field: &str| -> Vec<String> {
                let list = case[field].as_array().unwrap().iter();
                list.map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            let leaf = cid_of(&case["leafValue"]).unwrap();
            let (keys, adds, dels) = (texts("keys"), texts("adds"), texts("dels"));
            let mut tree = Tree::new(keys.iter().map(|key| (key.as_str(), leaf)));
            let before = cid_of(&case["rootBeforeCommit"]).unwrap();
            assert_eq!(tree.root(), before, "{comment}");
            // The records are not there, so deletes alone go through the practice network's trees.
            let after = keys.iter().filter(|key| !dels.contains(key)).chain(&adds);
            let whole = Tree::new(after.map(|key| (key.as_str(), leaf)));
            assert_eq!(Some(whole.root()), cid_of(&case["rootAfterCommit"]), "{comment}");
            let writes: Vec<Write> = adds.iter().map(|key| (key, Some(())))
                .chain(dels.iter().map(|key| (key, None)))
                .map(|(key, record)| Write {
                    key: key.clone(),
                    record: record.map(|()| Arc::new(b"\xa0".to_vec())),
                })
                .collect();
            let ops: Vec<Op> = adds.iter().map(|key| op_of(key, Some(leaf), None))
                .chain(dels.iter().map(|key| op_of(key, None, Some(leaf))))
                .collect();
            let proof: BTreeSet<String> = texts("blocksInProof").into_iter().collect();
            let mut all = BTreeMap::new();
            whole.nodes(&mut all);
            let nodes: BTreeMap<Cid, &[u8]> = all.iter()
                .filter(|(cid, _)| proof.contains(&cid.to_string()))
                .map(|(cid, block)| (*cid, &block[..]))
                .collect();
            assert_eq!(nodes.len(), proof.len(), "{comment}");
            let found = root_before(whole.root(), &ops, |cid| nodes.get(cid).copied());
            assert_eq!(found, Ok(before), "{comment}");
            let shown: BTreeSet<String> = whole
                .covering_proof(writes.iter().map(|write| write.key.as_str()))
                .keys()
                .map(Cid::to_string)
                .collect();
            assert_eq!(shown, proof, "{comment}");
            let changed = tree.apply(&writes);
            let get = |cid: &Cid| changed.blocks.get(cid).map(|block| &block[..]);
            assert_eq!(root_before(changed.data, &changed.ops, get), Ok(before), "{comment}");
        }
        assert!(cases.len() >= 6, "{}", cases.len());
    }
}
