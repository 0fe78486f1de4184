//! `atrepo` on real and hostile repos of the shared corpus. The tests stand here and not with the
//! crate because the crate is published, and the corpus is not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use atrepo::{Repo, RepoError};
use std::fs;
use std::path::PathBuf;
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
