//! One hostile host beside good ones, with each fault in turn: the honest repos are loaded, whatever
//! it does. `bench hostile-host` measures what it costs them.

use crate::network::{FAST, on_with, settings, states};
use crate::support::*;
use simnet::{Fault, Limit, Network, NetworkSettings, hostile};
use std::time::Duration;

/// Accounts of the hostile host.
const HOSTILE_ACCOUNTS: usize = 6;

/// Runs over a network with one hostile host that has this fault.
fn honest_repos_are_loaded_beside(fault: Fault) {
    let network = Network::start(NetworkSettings {
        faults: vec![fault],
        hostile_accounts: HOSTILE_ACCOUNTS,
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
        .args(["--allow-private-hosts", "--memory", "128MiB", "--no-verify"]);
    let mut run = Watched::start(&mut run);
    // One that is held up for good is killed when this gives up.
    wait_until(fault.word(), || run.child.try_wait().unwrap().is_some());
    let (code, text) = run.end();
    assert!(matches!(code, Some(0 | 1)), "{fault:?}: {text}");
    let (honest, states) = (network.honest(), states(&db));
    assert!(honest.len() > 20, "{fault:?}");
    for did in &honest {
        let state = states.get(did).map(String::as_str);
        assert_eq!(state, Some("loaded"), "{fault:?}, {did}: {text}");
    }
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{9b}'),
        "{fault:?}: {text}"
    );
    assert!(!text.contains(hostile::ESCAPES), "{fault:?}: {text}");
    for host in network.counts() {
        assert_eq!(host.with_credentials, 0, "{fault:?}: {}", host.host);
        assert_eq!(host.repeated, 0, "{fault:?}: {}", host.host);
    }
}

/// Each of these faults.
fn in_turn(faults: &[Fault]) {
    assert!(!faults.is_empty());
    for fault in faults {
        honest_repos_are_loaded_beside(*fault);
        eprintln!("{}: well", fault.word());
    }
}

#[test]
fn beside_hosts_that_are_of_no_use() {
    in_turn(&[
        Fault::DeadHost,
        Fault::TlsFailure,
        Fault::StallingHost,
        Fault::DrippingHost,
        Fault::EndlessHost,
    ]);
}

#[test]
fn beside_bad_answers() {
    in_turn(&[
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
    ]);
}

#[test]
fn beside_hostile_records() {
    in_turn(&[
        Fault::IndexKeys,
        Fault::LanguageTags,
        Fault::Mentions,
        Fault::DeepLists,
        Fault::ControlCharacters,
        Fault::LargeRecords,
        Fault::LongKeys,
    ]);
}

#[test]
fn beside_hostile_lists_and_limits() {
    in_turn(&[
        Fault::Limits429,
        Fault::Silent429,
        Fault::LyingList,
        Fault::InactivePage,
        Fault::FalseClaims,
        Fault::ForgedFuture,
        Fault::CircularList,
        Fault::OddLines,
        Fault::PageBomb,
    ]);
}

#[test]
fn beside_lists_without_end_and_evil_names() {
    in_turn(&[Fault::EvilNames, Fault::SlowLister]);
}

#[test]
fn beside_odd_identities() {
    in_turn(&[
        Fault::Moved,
        Fault::MovesDuringRun,
        Fault::RotatedKey,
        Fault::HandleElsewhere,
        Fault::EscapesInHandles,
        Fault::UserInEndpoint,
        Fault::SilentHandle,
    ]);
}
