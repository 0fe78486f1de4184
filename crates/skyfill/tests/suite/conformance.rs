//! Networks that the project generates, with everything in each other's way, judged by what the
//! official indexer was recorded to write for them (`conformance/recorded`, made by `make
//! conformance`).

use conformance::{Recorded, differing, digests, dump};
use std::fs;
use std::path::Path;
use testbed::*;

#[test]
fn tables_are_those_that_the_official_indexer_was_recorded_to_write() {
    let folder_of = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/recorded");
    let mut checked = 0;
    for entry in fs::read_dir(folder_of).expect("recorded networks") {
        let path = entry.expect("entry").path();
        let recorded = Recorded::read(&path).expect("a recorded network");
        assert_eq!(recorded.now, NOW);
        let net = Net::of_tangle(&recorded.tangle());
        let (db, dir) = (TestDb::migrated(), folder());
        net.load(&db, dir.path(), &net.dids, 1, &["--batch-size", "50"]);
        run_well(&mut net.identities(&db));
        run_well(&mut finalize(&db));
        let found = digests(&dump(&mut db.client(), "bsky").expect("dump"));
        let differing = differing(&found, &recorded.tables);
        assert!(
            differing.is_empty(),
            "{}: {differing:#?}; `make conformance` shows the rows",
            path.display()
        );
        checked += 1;
    }
    assert!(checked >= 3, "{checked} recorded networks");
}
