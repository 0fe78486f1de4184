//! Pages of a pass: what a line makes of a repo, and that it does not matter how a list is cut into
//! pages, nor how often one is stored.

use crate::support::{Ledger, SCHEMA};
use ledger::listing::{self, Changes, Line, Listed, Listing};
use ledger::states::{Inactive, State};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;

const DID: &str = "did:plc:a";
/// Revs after it lie in the future.
const NEWEST: &str = "3d";

fn line(did: &str, host: &str, rev: &str, status: Option<Inactive>) -> Line {
    Line {
        did: did.to_owned(),
        pds: (!host.is_empty()).then(|| (format!("https://{host}"), host.to_owned())),
        rev: (!rev.is_empty()).then(|| rev.to_owned()),
        status,
        is_settled: false,
    }
}

fn page(db: &mut Ledger, pass: i64, lines: &[Line]) -> Changes {
    listing::page(&mut db.client, SCHEMA, pass, lines, NEWEST).unwrap()
}

#[test]
fn a_line_makes_of_a_known_repo_what_it_says() {
    let mut db = Ledger::new();
    db.add("a", &[DID]);
    let (gone, deleted) = (Some(Inactive::Takendown), Some(Inactive::Deleted));
    let stored = "state = 'loaded', rev = '3b'";
    let claimed = "state = 'loaded', rev = '3b', contested = true, claimant = 'b'";
    let nowhere = "state = 'unresolved', host = '', pds = ''";
    let future = "state = 'loaded', rev = '3x'";
    // Before; host, rev and status of the line; state, host, claimant, and whether it is contested,
    // newer, delisted.
    for (before, host, rev, status, after) in [
        // Its own host.
        (stored, "a", "3b", None, "loaded a fff"),
        (stored, "a", "3c", None, "open a ftf"),
        (stored, "a", "3a", None, "loaded a fff"),
        (stored, "a", "", None, "loaded a fff"),
        (stored, "a", "3c", gone, "takendown a ftf"),
        (stored, "a", "", deleted, "open a fft"),
        ("state = 'open'", "a", "", deleted, "deleted a fft"),
        ("state = 'takendown'", "a", "", None, "open a fff"),
        ("state = 'failed'", "a", "", None, "open a fff"),
        ("state = 'not found'", "a", "", None, "open a fff"),
        ("state = 'host opted out'", "a", "", None, "open a fff"),
        // A rev in the future says nothing, and keeps nothing out.
        (stored, "a", "3x", None, "loaded a fff"),
        (future, "a", "3c", None, "open a ftf"),
        // Another host claims it.
        (stored, "b", "3c", None, "loaded a b tff"),
        ("state = 'open'", "b", "", None, "unresolved a b tff"),
        ("state = 'open', rev = '3b'", "b", "", None, "open a b tff"),
        (stored, "b", "3c", gone, "loaded a fff"),
        (stored, "b", "", deleted, "loaded a fff"),
        (claimed, "c", "3c", None, "loaded a b tff"),
        (claimed, "a", "3c", None, "loaded a b ttf"),
        // A list that does not say where.
        (stored, "", "3c", None, "open a ftf"),
        (stored, "", "", None, "loaded a fff"),
        (nowhere, "", "", None, "unresolved fff"),
        (nowhere, "b", "", None, "open b fff"),
    ] {
        let clean = "state = 'open', host = 'a', pds = 'https://a', rev = NULL, contested = false, claimant = NULL,
             newer = false, delisted = false";
        db.set(DID, clean);
        db.set(DID, before);
        let old = db.get(DID, "state, contested");
        let changes = page(&mut db, 1, &[line(DID, host, rev, status)]);
        let row = "state, nullif(host, ''), claimant,
             concat(left(contested::text, 1), left(newer::text, 1), left(delisted::text, 1))";
        assert_eq!(db.get(DID, row), after, "{before}; {host} {rev} {status:?}");
        let is_opened = after.starts_with("open") && !old.starts_with("open");
        let is_contested = after.contains(" t") && old.ends_with(" f");
        let wanted = Changes {
            new: 0,
            opened: is_opened.into(),
            contested: is_contested.into(),
        };
        assert_eq!(changes, wanted, "{before}; {host} {rev} {status:?}");
    }
}

#[test]
fn a_settled_line_says_where_a_repo_is() {
    let mut db = Ledger::new();
    db.add("a", &[DID]);
    let settled = |host| Line {
        is_settled: true,
        ..line(DID, host, "3b", None)
    };
    db.set(
        DID,
        "state = 'loaded', rev = '3b', contested = true, claimant = 'b', proof = NULL",
    );
    page(&mut db, 1, &[settled("a")]);
    assert_eq!(
        db.get(DID, "state, host, claimant, contested, proof"),
        "loaded a f"
    );
    page(&mut db, 1, &[settled("b")]);
    assert_eq!(
        db.get(DID, "state, host, claimant, contested, proof"),
        "open b f elsewhere"
    );
}

#[test]
fn a_line_adds_what_is_not_known() {
    let mut db = Ledger::new();
    let lines = [
        line("did:plc:a", "a", "3b", None),
        line("did:plc:b", "a", "3b", Some(Inactive::Suspended)),
        line("did:plc:c", "", "", None),
        line("did:plc:d", "a", "", Some(Inactive::Deleted)),
        // Of two of one DID the last counts.
        line("did:plc:d", "a", "", None),
    ];
    let changes = page(&mut db, 1, &lines);
    assert_eq!((changes.new, changes.opened, changes.contested), (4, 0, 0));
    for (did, row) in [
        ("did:plc:a", "open a https://a"),
        ("did:plc:b", "suspended a https://a"),
        ("did:plc:c", "unresolved"),
        ("did:plc:d", "open a https://a"),
    ] {
        assert_eq!(db.get(did, "state, nullif(host, ''), nullif(pds, '')"), row);
    }
    let known = ledger::verified::page(
        &mut db.client,
        SCHEMA,
        "",
        Some(&["did:plc:c".to_owned()]),
        9,
    )
    .unwrap();
    assert_eq!(known[0].state, State::Unresolved);
}

#[test]
fn a_pass_lists_each_host_once_and_goes_on_where_it_was_stopped() {
    let mut db = Ledger::new();
    let client = &mut db.client;
    let (pass, is_new) =
        listing::begin(client, SCHEMA, "all", Some(("https://r", Some(7)))).unwrap();
    assert!(is_new);
    assert_eq!(
        listing::begin(client, SCHEMA, "all", None).unwrap(),
        (pass, false)
    );
    assert_eq!(listing::seq(client, pass).unwrap(), Some(7));
    let host = |name: &str| (name.to_owned(), format!("https://{name}"));
    let hosts = [host("a"), host("b"), host("c"), host("d")];
    assert_eq!(listing::add_hosts(client, SCHEMA, pass, &hosts).unwrap(), 4);
    assert_eq!(listing::add_hosts(client, SCHEMA, pass, &hosts).unwrap(), 0);
    for name in ["a", "b", "c"] {
        listing::host_page(client, SCHEMA, name, "cursor", 3).unwrap();
    }
    let end = |client: &mut postgres::Client, name, end| {
        listing::host_ended(client, SCHEMA, name, end).unwrap();
    };
    end(client, "a", Listing::Whole);
    end(client, "b", Listing::InPart("too slow"));
    end(client, "c", Listing::OptedOut);
    let left = listing::hosts_to_list(client, SCHEMA, pass).unwrap();
    assert_eq!(
        left.iter().map(|h| h.host.as_str()).collect::<Vec<_>>(),
        ["d"]
    );
    let failed: BTreeMap<String, String> = listing::failed_hosts(client, SCHEMA, pass)
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(failed.len(), 2);
    assert_eq!(failed["b"], "too slow");
    let known: BTreeMap<String, Listed> = listing::hosts(client, SCHEMA)
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(
        (&known["a"], &known["c"]),
        (&Listed::Whole, &Listed::OptedOut)
    );
    assert!(matches!(&known["d"], Listed::Not(why) if why.contains("not to the end")));
    listing::end(client, pass).unwrap();
    // The next pass goes on with what was listed in part, and begins the others anew.
    let (next, is_new) = listing::begin(client, SCHEMA, "all", None).unwrap();
    assert!(is_new && next > pass);
    listing::add_hosts(client, SCHEMA, next, &hosts).unwrap();
    let to_list = listing::hosts_to_list(client, SCHEMA, next).unwrap();
    for host in &to_list {
        assert_eq!(host.goes_on, host.host == "b");
        assert_eq!(host.cursor.is_some(), host.host == "b", "{}", host.host);
    }
    assert_eq!(to_list.len(), 4);
}

#[test]
fn what_a_page_does_not_change_is_neither_written_nor_locked() {
    let mut db = Ledger::new();
    let dids: Vec<String> = (0..50)
        .map(|number| format!("did:plc:{number:02}"))
        .collect();
    let lines: Vec<Line> = dids.iter().map(|did| line(did, "a", "3b", None)).collect();
    let (pass, _) = listing::begin(&mut db.client, SCHEMA, "all", None).unwrap();
    assert_eq!(page(&mut db, pass, &lines).new, 50);
    let sql = "UPDATE skyfill.repo SET state = 'loaded', rev = '3b'";
    db.client.execute(sql, &[]).unwrap();
    listing::end(&mut db.client, pass).unwrap();
    let (pass, _) = listing::begin(&mut db.client, SCHEMA, "all", None).unwrap();
    let host = [("a".to_owned(), "https://a".to_owned())];
    listing::add_hosts(&mut db.client, SCHEMA, pass, &host).unwrap();
    let places = "SELECT concat_ws(' ', did, ctid, xmin, xmax) FROM skyfill.repo ORDER BY did";
    let rows = |db: &mut Ledger| -> Vec<String> {
        let rows = db.client.query(places, &[]).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let before = rows(&mut db);
    // The list leaves one out, and has a newer rev of another.
    assert_eq!(page(&mut db, pass, &lines[1..40]), Changes::default());
    assert_eq!(rows(&mut db), before);
    let newer = line(&dids[40], "a", "3c", None);
    let last = [&lines[41..], &[newer]].concat();
    assert_eq!(page(&mut db, pass, &last).opened, 1);
    let after = rows(&mut db);
    let written: Vec<usize> = (0..50).filter(|at| before[*at] != after[*at]).collect();
    assert_eq!(written, [40]);
    listing::host_ended(&mut db.client, SCHEMA, "a", Listing::Whole).unwrap();
    assert_eq!(
        listing::open_unlisted(&mut db.client, SCHEMA, pass).unwrap(),
        1
    );
    assert_eq!(db.get(&dids[0], "state, delisted"), "open t");
    listing::end(&mut db.client, pass).unwrap();
    assert!(db.rows("listed").is_empty());
}

#[test]
fn what_a_host_that_was_listed_to_its_end_does_not_list_is_asked_for() {
    let mut db = Ledger::new();
    db.add("a", &["did:plc:a", "did:plc:b", "did:plc:c"]);
    db.add("b", &["did:plc:d"]);
    for (did, change) in [
        ("did:plc:a", "state = 'loaded', rev = '3a'"),
        ("did:plc:b", "state = 'loaded', rev = '3a'"),
        ("did:plc:c", "state = 'deleted'"),
        ("did:plc:d", "state = 'loaded', rev = '3a'"),
    ] {
        db.set(did, change);
    }
    let (pass, _) = listing::begin(&mut db.client, SCHEMA, "all", None).unwrap();
    let hosts = [("a", "https://a"), ("b", "https://b")];
    let hosts = hosts.map(|(name, url)| (name.to_owned(), url.to_owned()));
    listing::add_hosts(&mut db.client, SCHEMA, pass, &hosts).unwrap();
    page(&mut db, pass, &[line("did:plc:b", "a", "3a", None)]);
    listing::host_ended(&mut db.client, SCHEMA, "a", Listing::Whole).unwrap();
    listing::host_ended(&mut db.client, SCHEMA, "b", Listing::InPart("slow")).unwrap();
    assert_eq!(
        listing::open_unlisted(&mut db.client, SCHEMA, pass).unwrap(),
        1
    );
    assert_eq!(db.get("did:plc:a", "state, delisted"), "open t");
    assert_eq!(db.get("did:plc:b", "state, delisted"), "loaded f");
    assert_eq!(db.get("did:plc:d", "state, delisted"), "loaded f");
}

/// What is known of a repo before a pass: nothing, or its host, state and rev.
fn known() -> impl Strategy<Value = Option<(&'static str, State, Option<&'static str>)>> {
    let states = prop::sample::select(State::ALL.to_vec());
    let revs = prop::option::of(prop::sample::select(vec!["3a", "3b", "3x"]));
    prop::option::of((prop::sample::select(vec!["a", "b", ""]), states, revs))
}

/// The list of a host: at most one line for each repo.
fn list() -> impl Strategy<Value = (&'static str, Vec<Line>)> {
    let rev = prop::sample::select(vec!["", "3a", "3b", "3c", "3x"]);
    let mut statuses: Vec<Option<Inactive>> = vec![None; 6];
    statuses.extend(Inactive::ALL.map(Some));
    let of = (
        0..REPOS,
        rev,
        prop::sample::select(statuses),
        prop::bool::weighted(0.1),
    );
    let host = prop::sample::select(vec!["a", "b", "c", ""]);
    (host, vec(of, 0..8)).prop_map(|(host, lines)| {
        let lines: BTreeMap<usize, Line> = lines
            .into_iter()
            .map(|(number, rev, status, is_settled)| {
                let line = line(&format!("did:plc:{number}"), host, rev, status);
                let is_settled = is_settled && !host.is_empty();
                (number, Line { is_settled, ..line })
            })
            .collect();
        (host, lines.into_values().collect())
    })
}

const REPOS: usize = 6;

/// Stores lists in pages of these sizes, each page so often; what the ledger is then.
fn ledger_after(
    db: &mut Ledger,
    before: &[Option<(&str, State, Option<&str>)>],
    lists: &[(&str, Vec<Line>)],
    mut cuts: impl Iterator<Item = (usize, usize)>,
) -> Vec<String> {
    db.client
        .batch_execute("TRUNCATE skyfill.repo, skyfill.host, skyfill.lost_claim")
        .unwrap();
    for (number, known) in before.iter().enumerate() {
        let Some((host, state, rev)) = known else {
            continue;
        };
        let did = format!("did:plc:{number}");
        db.add(host, &[&did]);
        let rev = rev.map_or_else(|| "NULL".to_owned(), |rev| format!("'{rev}'"));
        db.set(&did, &format!("state = '{state}', rev = {rev}"));
    }
    for (_, lines) in lists {
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            let (size, times) = cuts.next().unwrap();
            let (lines, after) = rest.split_at(size.min(rest.len()));
            for _ in 0..times {
                page(db, 1, lines);
            }
            rest = after;
        }
    }
    [db.rows("repo"), db.rows("host")].concat()
}

#[test]
fn any_pages_stored_any_number_of_times_end_in_the_same_ledger() {
    let db = RefCell::new(Ledger::new());
    let cuts = vec((1usize..5, 1usize..4), 40);
    let config = Config {
        cases: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let lists = vec(list(), 1..5);
    TestRunner::new(config)
        .run(
            &(vec(known(), REPOS), lists, cuts),
            |(before, lists, cuts)| {
                let mut db = db.borrow_mut();
                let whole = ledger_after(&mut db, &before, &lists, std::iter::repeat((99, 1)));
                let cut = ledger_after(&mut db, &before, &lists, cuts.into_iter());
                let differ: Vec<_> = whole
                    .iter()
                    .zip(&cut)
                    .filter(|(one, other)| one != other)
                    .collect();
                prop_assert!(differ.is_empty() && whole.len() == cut.len(), "{differ:#?}");
                Ok(())
            },
        )
        .unwrap();
}
