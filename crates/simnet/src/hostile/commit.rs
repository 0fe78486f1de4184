//! Commits that are too large, too new, or signed by somebody else.

use crate::keys::sign_with;
use crate::repo::{build_blocks_under, build_car, build_commit_fields};
use atrepo::Cid;

/// The last rev that there can be: a repo that is believed to be at it is newer than all that its
/// account will ever commit.
pub const LAST_REV: &str = "jzzzzzzzzzzzz";

/// The whole CAR of a repo whose commit has another field of `padding` zeros. Its signature is
/// good.
#[must_use]
pub fn padded_repo(
    did: &str,
    rev: &str,
    records: Vec<(String, Vec<u8>)>,
    padding: usize,
) -> Vec<u8> {
    let (root, blocks) = build_blocks_under(records, |data| {
        build_commit_fields(did, rev, data, padding, |message| {
            sign_with(did, 0, message)
        })
    });
    build_car(root, &blocks)
}

/// The whole CAR of a repo that somebody else made for `did`: the signature is not of its key.
#[must_use]
pub fn forged_repo(did: &str, rev: &str, records: Vec<(String, Vec<u8>)>) -> Vec<u8> {
    let (root, blocks) = forged_blocks(did, rev, records);
    build_car(root, &blocks)
}

/// The blocks of such a repo, and the CID of its commit, which is the last of them.
pub(crate) fn forged_blocks(
    did: &str,
    rev: &str,
    records: Vec<(String, Vec<u8>)>,
) -> (Cid, Vec<(Cid, Vec<u8>)>) {
    build_blocks_under(records, |data| {
        build_commit_fields(did, rev, data, 0, |message| sign_with(FORGER, 0, message))
    })
}

/// Whose key signs what is forged.
const FORGER: &str = "did:plc:forger";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostile::record::post;
    use atrepo::{Repo, syntax};

    const DID: &str = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa";

    fn records() -> Vec<(String, Vec<u8>)> {
        let key = format!(
            "app.bsky.feed.post/{}",
            syntax::tid(1_700_000_000_000_000, 0)
        );
        vec![(key, post(vec![]))]
    }

    #[test]
    fn what_is_padded_is_a_repo_and_what_is_forged_too() {
        let padded = padded_repo(DID, &syntax::tid(1, 0), records(), 1000);
        let repo = Repo::open(&padded, DID).unwrap();
        assert_eq!(repo.check().unwrap().entries, 1);
        let forged = forged_repo(DID, LAST_REV, records());
        let repo = Repo::open(&forged, DID).unwrap();
        assert_eq!(repo.check().unwrap().entries, 1);
        assert_eq!(repo.commit().rev, LAST_REV);
    }
}
