//! Networks that the project generates, with everything in each other's way, judged by what the
//! official indexer was recorded to write for them (`conformance/recorded`, made by `make
//! conformance`).

use conformance::{Recorded, differing, digests, dump};
use simnet::Answer;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use testbed::*;

/// The recorded networks, with their files.
fn recorded() -> Vec<(String, Recorded)> {
    let folder_of = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/recorded");
    let networks: Vec<_> = fs::read_dir(folder_of)
        .expect("recorded networks")
        .map(|entry| {
            let path = entry.expect("entry").path();
            let recorded = Recorded::read(&path).expect("a recorded network");
            assert_eq!(recorded.now, NOW);
            (path.display().to_string(), recorded)
        })
        .collect();
    assert!(networks.len() >= 3, "{} recorded networks", networks.len());
    networks
}

fn assert_official(db: &TestDb, file: &str, recorded: &Recorded) {
    let found = digests(&dump(&mut db.client(), "bsky").expect("dump"));
    let differing = differing(&found, &recorded.tables);
    assert!(
        differing.is_empty(),
        "{file}: {differing:#?}; `make conformance` shows the rows"
    );
}

#[test]
fn tables_are_those_that_the_official_indexer_was_recorded_to_write() {
    for (file, recorded) in recorded() {
        let net = Net::of_tangle(&recorded.tangle());
        let (db, dir) = (TestDb::migrated(), folder());
        net.load(&db, dir.path(), &net.dids, 1, &["--batch-size", "50"]);
        run_well(&mut net.identities(&db));
        run_well(&mut finalize(&db));
        assert_official(&db, &file, &recorded);
    }
}

/// A state of a day before is loaded, finalized and proved; then what changed, a third of the
/// accounts at a time.
#[test]
fn changes_lead_to_what_the_official_indexer_was_recorded_to_write() {
    for (file, recorded) in recorded() {
        let tangle = recorded.tangle();
        let earlier = tangle.earlier(recorded.seed);
        let net = Net::of_tangle(&tangle);
        let serve = |state: &simnet::Tangle, did: &str| {
            let answer = Answer::Repo(Arc::new(state.car(did)));
            net.server.set(did, answer);
        };
        net.dids.iter().for_each(|did| serve(&earlier, did));
        let (db, dir) = (TestDb::migrated(), folder());
        let run = |dids: &[String]| {
            let dids = dids.iter().map(String::as_str);
            let list = did_file(dir.path(), &net.server.url(), dids);
            run_well(
                run_load(&db.url)
                    .args(["--plc-url", &net.server.url()])
                    .arg(list),
            )
        };
        run(&net.dids);
        let found = digests(&dump(&mut db.client(), "bsky").expect("dump"));
        assert!(!differing(&found, &recorded.tables).is_empty(), "{file}");
        for third in net.dids.chunks(net.dids.len().div_ceil(3)) {
            third.iter().for_each(|did| serve(&tangle, did));
            let told = told(&run(third));
            assert!(told.contains("computing what depends on"), "{told}");
        }
        run_well(&mut net.identities(&db));
        assert_official(&db, &file, &recorded);
    }
}
