//! One hostile host beside good ones: the honest repos are loaded, whatever it does. Faults of
//! hosts and of lists come in turn, those of accounts together. `bench hostile-host` measures what
//! each of them costs the others.

use crate::network::{FAST, on_with, settings, states};
use simnet::{Fault, Limit, Network, NetworkSettings, hostile};
use std::time::Duration;
use testbed::*;

/// Accounts of the hostile host that have the same fault.
const ACCOUNTS: usize = 2;

/// Faults that make a host useless. They come in turn.
const USELESS_HOSTS: &[Fault] = &[
    Fault::DeadHost,
    Fault::TlsFailure,
    Fault::StallingHost,
    Fault::DrippingHost,
    Fault::EndlessHost,
];

/// Faults of answers for a repo. They come together.
const BAD_ANSWERS: &[Fault] = &[
    Fault::CutAtBlock,
    Fault::ForgedBlock,
    Fault::Html,
    Fault::RedirectLoop,
    Fault::Bomb,
    Fault::Endless,
    Fault::ServerError,
    Fault::Reset,
    Fault::Stall,
    Fault::WrongLength,
    Fault::CommitBomb,
    Fault::ZstdBomb,
    Fault::DuplicateSections,
    Fault::EscapesInErrors,
];

/// Faults of records. They come together.
const HOSTILE_RECORDS: &[Fault] = &[
    Fault::IndexKeys,
    Fault::LanguageTags,
    Fault::Mentions,
    Fault::DeepLists,
    Fault::ControlCharacters,
    Fault::LargeRecords,
    Fault::LongKeys,
];

/// Faults of lists and of limits. They come in turn.
const LISTS_AND_LIMITS: &[Fault] = &[
    Fault::Limits429,
    Fault::Silent429,
    Fault::LyingList,
    Fault::InactivePage,
    Fault::FalseClaims,
    Fault::ForgedFuture,
    Fault::CircularList,
    Fault::OddLines,
    Fault::PageBomb,
];

/// A list without end, and names of a good host's address. They come in turn.
const ENDLESS_AND_EVIL: &[Fault] = &[Fault::EvilNames, Fault::SlowLister];

/// Faults of where accounts live and what they say of themselves. They come together.
const ODD_IDENTITIES: &[Fault] = &[
    Fault::Moved,
    Fault::MovesDuringRun,
    Fault::RotatedKey,
    Fault::HandleElsewhere,
    Fault::EscapesInHandles,
    Fault::UserInEndpoint,
    Fault::SilentHandle,
];

#[test]
fn every_fault_is_in_a_list() {
    let lists = [
        USELESS_HOSTS,
        BAD_ANSWERS,
        HOSTILE_RECORDS,
        LISTS_AND_LIMITS,
        ENDLESS_AND_EVIL,
        ODD_IDENTITIES,
        // The hostile host is alone and shares its address with nobody.
        &[Fault::SharedAddress],
    ];
    let mut listed: Vec<Fault> = lists.concat();
    listed.sort_unstable();
    let mut all = Fault::ALL.to_vec();
    all.sort_unstable();
    assert_eq!(listed, all);
}

/// Runs over a network with one hostile host that has these faults.
fn honest_repos_are_loaded_beside(faults: &[Fault]) {
    let network = Network::start(NetworkSettings {
        faults: faults.to_vec(),
        hostile_accounts: ACCOUNTS * faults.len(),
        limit: Some(Limit {
            requests: 20,
            window: Duration::from_secs(2),
        }),
        ..settings(11, 30, 4)
    });
    let db = TestDb::migrated();
    let mut run = on_with(&network, &db, "run", "skip");
    run.args(FAST)
        .args(["--discover", "--relay", &network.relay_url()])
        .args([
            "--straggler-grace",
            "5",
            "--memory",
            "128MiB",
            "--no-verify",
        ]);
    let mut run = Watched::start(&mut run);
    run.wait_for_end();
    let (code, text) = run.end();
    assert!(matches!(code, Some(0 | 1)), "{faults:?}: {text}");
    let (honest, states) = (network.honest(), states(&db));
    assert!(honest.len() > 20, "{faults:?}");
    for did in &honest {
        let state = states.get(did).map(String::as_str);
        assert_eq!(state, Some("loaded"), "{faults:?}, {did}: {text}");
    }
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{9b}'),
        "{faults:?}: {text}"
    );
    assert!(!text.contains(hostile::ESCAPES), "{faults:?}: {text}");
    for host in network.counts() {
        assert_eq!(host.with_credentials, 0, "{faults:?}: {}", host.host);
        assert_eq!(host.repeated, 0, "{faults:?}: {}", host.host);
    }
}

/// Each of these faults on a network of its own.
fn in_turn(faults: &[Fault]) {
    for fault in faults {
        honest_repos_are_loaded_beside(&[*fault]);
        eprintln!("{}: well", fault.word());
    }
}

#[test]
fn beside_hosts_that_are_of_no_use() {
    in_turn(USELESS_HOSTS);
}

#[test]
fn beside_bad_answers() {
    honest_repos_are_loaded_beside(BAD_ANSWERS);
}

#[test]
fn beside_hostile_records() {
    honest_repos_are_loaded_beside(HOSTILE_RECORDS);
}

#[test]
fn beside_hostile_lists_and_limits() {
    in_turn(LISTS_AND_LIMITS);
}

#[test]
fn beside_lists_without_end_and_evil_names() {
    in_turn(ENDLESS_AND_EVIL);
}

#[test]
fn beside_odd_identities() {
    honest_repos_are_loaded_beside(ODD_IDENTITIES);
}
