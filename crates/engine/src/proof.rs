//! Proves repos that were stored unproved: compares each stored commit with its account's document,
//! once that is known.
//!
//! A commit that holds is marked as proved. If no key of the account signed it, or if it came from
//! another host than the document names, the repo becomes pending on that host, and the next load
//! stores what that host has, whatever its rev. If the known key did not sign a commit, skyfill
//! requests the document and the log of older keys from the directory, for a bounded number of
//! accounts per round. A repo that was found forged is not checked again.

use crate::documents::note;
use crate::trust::{Known, Verdict, judge_commit};
use atrepo::Commit;
use fetch::hosts::host_of;
use identity::resolve::{Found, Resolver};
use ledger::identity::DocumentNote;
use ledger::proofs::{self, Proof, Unproved};
use process::Failure;
use process::Patient;
use process::Stop;
use std::sync::Arc;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Commits that are looked at between two looks at the database.
const PAGE: i64 = 2000;
/// Accounts of which the directory is asked in one go over all: at its default pace that takes a
/// quarter of an hour. The others wait.
const MOST_ASKED: usize = 10_000;
/// Accounts that are asked for concurrently; the directory's pace is its own.
const AT_ONCE: usize = 16;

/// The result of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proved {
    /// Repos that are proved now.
    pub proved: u64,
    /// Repos that no key of their accounts signed.
    pub forged: u64,
    /// Repos that came from another host than their documents name.
    pub elsewhere: u64,
    /// Repos that were opened, to be fetched again.
    pub opened: u64,
    /// Whether it was stopped.
    pub is_stopped: bool,
}

/// What a stored commit is worth, by what the ledger knows.
enum Judged {
    Found(proofs::Found),
    /// The directory has to be asked.
    Doubtful(Unproved),
    /// Nothing is known of its document.
    Unknown,
}

/// Goes over all stored repos that are not proved.
pub(crate) fn prove(
    schema: &str,
    client: &mut Patient<'_>,
    runtime: &Runtime,
    documents: &Arc<Resolver>,
    stop: &Stop,
) -> Result<Proved, Failure> {
    let mut proved = Proved::default();
    let mut left_to_ask = MOST_ASKED;
    let mut after = String::new();
    loop {
        if stop.is_set() {
            proved.is_stopped = true;
            return Ok(proved);
        }
        let page = client.run(|client| proofs::unproved(client, schema, &after, PAGE))?;
        let Some(last) = page.last() else {
            return Ok(proved);
        };
        after.clone_from(&last.did);
        let (mut found, mut doubtful) = (Vec::new(), Vec::new());
        for judged in judge_all(page) {
            match judged {
                Judged::Found(one) => found.push(one),
                Judged::Doubtful(one) => doubtful.push(one),
                Judged::Unknown => {}
            }
        }
        doubtful.truncate(left_to_ask);
        left_to_ask -= doubtful.len();
        let (asked, notes) = runtime.block_on(ask_all(doubtful, documents, stop));
        found.extend(asked);
        proved.opened += client.run(|client| -> Result<u64, postgres::Error> {
            let mut txn = client.transaction()?;
            let opened = proofs::note(&mut txn, schema, &found)?;
            ledger::identity::add_documents(&mut txn, schema, &notes)?;
            txn.commit()?;
            Ok(opened)
        })?;
        for one in &found {
            *match one.proof {
                Proof::Signed | Proof::OlderKey => &mut proved.proved,
                Proof::Forged => &mut proved.forged,
                Proof::Elsewhere => &mut proved.elsewhere,
            } += 1;
        }
    }
}

/// Judges commits on all processors: a signature takes some 30 to 60 microseconds.
fn judge_all(page: Vec<Unproved>) -> Vec<Judged> {
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let mut shares: Vec<Vec<Unproved>> = (0..threads).map(|_| Vec::new()).collect();
    for (number, one) in page.into_iter().enumerate() {
        shares[number % threads].push(one);
    }
    std::thread::scope(|scope| {
        let work = |share: Vec<Unproved>| {
            scope.spawn(|| share.into_iter().map(judge_one).collect::<Vec<Judged>>())
        };
        let working: Vec<_> = shares.into_iter().map(work).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Vec<Judged>>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        working.into_iter().flat_map(join).collect()
    })
}

fn judge_one(one: Unproved) -> Judged {
    let Some((pds, _)) = &one.document else {
        return Judged::Unknown;
    };
    // What was found before stays until it is loaded again.
    if let Some(proof @ (Proof::Forged | Proof::Elsewhere)) = one.proof {
        let pds = pds.clone();
        return Judged::Found(found(&one, proof, Some(pds)));
    }
    let known = Known::of_ledger(one.document.as_ref());
    judge_with(one, known.as_ref())
}

fn judge_with(one: Unproved, known: Option<&Known>) -> Judged {
    let pds = one.document.as_ref().map(|(pds, _)| pds.clone());
    let Ok(commit) = Commit::parse(&one.commit) else {
        return Judged::Found(found(&one, Proof::Forged, pds));
    };
    match judge_commit(&commit, &one.host, known) {
        Verdict::Accepted(Some(proof)) => Judged::Found(found(&one, proof, None)),
        Verdict::Accepted(None) => Judged::Found(found(&one, Proof::Elsewhere, pds)),
        Verdict::Forged => Judged::Found(found(&one, Proof::Forged, pds)),
        Verdict::Doubtful => Judged::Doubtful(one),
    }
}

fn found(one: &Unproved, proof: Proof, pds: Option<String>) -> proofs::Found {
    proofs::Found {
        did: one.did.clone(),
        commit_cid: one.commit_cid.clone(),
        proof,
        at: pds.map(|pds| {
            let host = host_of(&pds);
            (pds, host)
        }),
    }
}

/// Asks the directory about commits that the known key did not sign. What it cannot tell stays
/// unproved.
async fn ask_all(
    doubtful: Vec<Unproved>,
    documents: &Arc<Resolver>,
    stop: &Stop,
) -> (Vec<proofs::Found>, Vec<DocumentNote>) {
    let mut tasks = JoinSet::new();
    let mut answers = Vec::new();
    for one in doubtful {
        if tasks.len() >= AT_ONCE
            && let Some(Ok(answer)) = tasks.join_next().await
        {
            answers.push(answer);
        }
        let (documents, stop) = (Arc::clone(documents), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                answer = ask(one, &documents) => answer,
                () = stop.wait() => (None, None),
            }
        });
    }
    answers.extend(tasks.join_all().await);
    let (found, notes): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    (
        found.into_iter().flatten().collect(),
        notes.into_iter().flatten().collect(),
    )
}

async fn ask(
    mut one: Unproved,
    documents: &Resolver,
) -> (Option<proofs::Found>, Option<DocumentNote>) {
    let mut noted = None;
    if !one.is_fresh {
        let found = documents.resolve(&one.did).await;
        let Found::Document(document) = &found else {
            return (None, None);
        };
        one.document = Some((document.pds.clone(), document.signing_key.clone()));
        noted = Some(DocumentNote {
            heard: one.heard,
            ..note(one.did.clone(), &found)
        });
    }
    let known = Known::of_ledger(one.document.as_ref());
    let one = match judge_with(one, known.as_ref()) {
        Judged::Found(found) => return (Some(found), noted),
        Judged::Unknown => return (None, noted),
        Judged::Doubtful(one) => one,
    };
    let Ok(older_keys) = documents.older_keys(&one.did).await else {
        return (None, noted);
    };
    let known = known.map(|known| Known {
        older_keys: Some(older_keys),
        ..known
    });
    match judge_with(one, known.as_ref()) {
        Judged::Found(found) => (Some(found), noted),
        Judged::Doubtful(_) | Judged::Unknown => (None, noted),
    }
}
