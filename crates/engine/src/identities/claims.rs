//! Verifies handles that are stored as their documents claim them, beside an AppView that serves.
//!
//! It goes round the claims in the order of DIDs. [`Turns`] says whose handle is asked for next, so
//! that a domain that stalls costs its own accounts only; those that it passes over are read again
//! in the next round. A true claim costs a row of the ledger and none of the table `actor`. What
//! was noted is not asked for again, so a stop costs the requests in flight.
//!
//! That nobody answers at all is no domain's fault: such results are dropped, and asked for again.

use crate::identities::bulk::Bulk;
use crate::identities::learned::{self, Learned};
use crate::identities::options::Options;
use crate::identities::summary::Counts;
use crate::identities::turns::{Pushed, RequestEnd, Turns};
use fetch::hosts::domain_of;
use identity::handle::{self, Manner};
use identity::resolve;
use ledger::handles::{Claim, note_settled};
use ledger::identity::{HandleNote, HandleState};
use ledger::locks::{self, Hold, Lock};
use load::actors::{self, Settled};
use pg::DbError;
use postgres::Client;
use process::{Database, Failure, Patient, Stop};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Claims that are read at once, and that wait in memory at most, about.
const PAGE: i64 = 1000;
const WAITING: usize = 10_000;
/// Results that are stored in one transaction, about twice per second at the default pace, and the
/// time after which fewer are.
const STORED_AT_ONCE: usize = 100;
const STORE_EVERY: Duration = Duration::from_secs(5);
/// After so many requests in a row without any answer, the network is away, and not its hosts.
const OUTAGE: usize = 100;
/// Pause after that. After so many of them in a row, the hosts are away.
const OUTAGE_PAUSE: Duration = Duration::from_secs(60);
const MOST_OUTAGES: u32 = 10;
/// Longest pause when all that is left is put off.
const PAUSE: Duration = Duration::from_secs(60);
/// Attempts to store a batch whose handles the AppView writes at the same moment.
const CLASHES: u32 = 5;

/// How a part of the work ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// No claim is left.
    Done,
    /// Its time is over, or documents changed, so that accounts are due.
    OutOfTime,
    /// It was stopped.
    Stopped,
}

/// What verifying claims needs, and where it is.
pub(super) struct Verifying<'v> {
    options: &'v Options,
    database: &'v Database,
    runtime: &'v Runtime,
    counts: &'v Counts,
    stop: &'v Stop,
    documents: Arc<resolve::Resolver>,
    handles: Arc<handle::Resolver>,
    turns: Turns<Claim>,
    /// Where the round is.
    after: String,
    is_read: bool,
    /// Whether a claim of this round was noted, whether one is left, and whether a document
    /// changed.
    has_noted: bool,
    leaves: bool,
    has_changed: bool,
    outages: u32,
    /// Results, and those among them that nobody's answer has confirmed: see [`OUTAGE`].
    found: Vec<Looked>,
    doubtful: Vec<Looked>,
    stored_at: Instant,
}

/// A claim, and what was learned of it.
struct Looked {
    claim: Claim,
    learned: Learned,
}

/// A request that ended.
struct Answer {
    domain: Arc<str>,
    looked: Looked,
    ended: RequestEnd,
    took: Duration,
}

impl<'v> Verifying<'v> {
    pub(super) fn new(
        options: &'v Options,
        (database, runtime): (&'v Database, &'v Runtime),
        (counts, stop): (&'v Counts, &'v Stop),
    ) -> Result<Self, Failure> {
        Ok(Self {
            options,
            database,
            runtime,
            counts,
            stop,
            documents: Arc::new(options.directory.documents(learned::ATTEMPTS)?),
            handles: Arc::new(options.directory.handles()?),
            turns: Turns::default(),
            after: String::new(),
            is_read: false,
            has_noted: false,
            leaves: false,
            has_changed: false,
            outages: 0,
            found: Vec::new(),
            doubtful: Vec::new(),
            stored_at: Instant::now(),
        })
    }

    /// Verifies claims until none is left, or for this time.
    pub(super) fn go_on(
        &mut self,
        client: &mut Patient<'_>,
        time: Duration,
    ) -> Result<Part, Failure> {
        let until = Instant::now() + time;
        while !self.stop.is_set() {
            let is_out = self.round(client, until)?;
            if self.stop.is_set() {
                break;
            }
            if is_out {
                self.outages += 1;
                tracing::warn!(
                    "none of {OUTAGE} hosts answered; handles are asked for again in {} s",
                    OUTAGE_PAUSE.as_secs()
                );
                let _is_stopped = !self.stop.waits().sleep(OUTAGE_PAUSE);
            } else if !self.is_read {
                return Ok(Part::OutOfTime);
            } else if !self.leaves && !self.has_changed {
                return Ok(Part::Done);
            } else if !self.has_noted && !self.has_changed {
                let next = self.turns.next_trial();
                let wait = next.map(|at| at.saturating_duration_since(Instant::now()));
                let wait = wait.unwrap_or(PAUSE).clamp(Duration::from_secs(1), PAUSE);
                let _is_stopped = !self.stop.waits().sleep(wait);
            }
            let has_changed = self.has_changed;
            self.begin_round();
            if has_changed || Instant::now() >= until {
                return Ok(Part::OutOfTime);
            }
        }
        Ok(Part::Stopped)
    }

    fn begin_round(&mut self) {
        (self.is_read, self.after) = (false, String::new());
        (self.has_noted, self.leaves, self.has_changed) = (false, false, false);
    }

    /// The rest of a round, or as much as there is time for; whether nobody answered at all.
    fn round(&mut self, client: &mut Patient<'_>, until: Instant) -> Result<bool, Failure> {
        let mut asking: JoinSet<Option<Answer>> = JoinSet::new();
        let mut is_out = false;
        loop {
            let is_over = self.stop.is_set() || is_out || Instant::now() >= until;
            if !is_over {
                if !self.is_read && self.turns.waiting() < WAITING {
                    self.read(client)?;
                }
                self.begin_requests(&mut asking);
            }
            let is_full = asking.len() >= self.options.concurrency;
            let has_more = !is_over && !self.is_read && self.turns.waiting() < WAITING;
            let next = match has_more && !is_full {
                true => asking.try_join_next(),
                false if asking.is_empty() => break,
                false => self.runtime.block_on(asking.join_next()),
            };
            if let Some(answer) = next {
                // A task that panicked is the program's fault, not the account's.
                let answer = answer.unwrap_or_else(|panic| match panic.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => None,
                });
                is_out |= answer.is_some_and(|answer| self.on_answer(answer));
            }
            let is_many = self.found.len() >= STORED_AT_ONCE;
            if is_many || self.stored_at.elapsed() >= STORE_EVERY {
                self.store(client)?;
            }
        }
        if !is_out && !self.stop.is_set() {
            self.found.append(&mut self.doubtful);
        }
        self.leaves |= !self.doubtful.is_empty();
        self.doubtful.clear();
        self.store(client)?;
        Ok(is_out)
    }

    /// Reads a page of claims, which wait for their domains.
    fn read(&mut self, client: &mut Patient<'_>) -> Result<(), Failure> {
        let (schema, after) = (&self.database.schema, &self.after);
        let plc_is_fresh = self.options.bulk != Bulk::Nothing;
        let page = client
            .run(|client| ledger::handles::claims(client, schema, after, PAGE, plc_is_fresh))?;
        match page.last() {
            Some(last) => self.after.clone_from(&last.due.did),
            None => self.is_read = true,
        }
        let now = Instant::now();
        for claim in page {
            let domain = domain(&claim);
            match self.turns.push(&domain, claim, now) {
                Pushed::Waits => {}
                Pushed::PassedOver => self.leaves = true,
                Pushed::Hopeless(claim) => {
                    let why = format!("{domain} has not answered for hours");
                    let learned = Learned::unreachable(&claim.due, claim.handle.as_deref(), why);
                    self.found.push(Looked { claim, learned });
                }
            }
        }
        Ok(())
    }

    fn begin_requests(&mut self, asking: &mut JoinSet<Option<Answer>>) {
        while asking.len() < self.options.concurrency {
            let Some((domain, claim)) = self.turns.next() else {
                return;
            };
            let (documents, handles) = (Arc::clone(&self.documents), Arc::clone(&self.handles));
            let stop = self.stop.clone();
            let task = async move {
                tokio::select! {
                    biased;
                    () = stop.wait() => None,
                    answer = look(domain, claim, &documents, &handles) => Some(answer),
                }
            };
            asking.spawn_on(task, self.runtime.handle());
        }
    }

    /// Takes an answer; whether it is one of so many in a row that were none that the network must
    /// be away.
    fn on_answer(&mut self, answer: Answer) -> bool {
        let Answer {
            domain,
            looked,
            ended,
            took,
        } = answer;
        let passed_over = self.turns.ended(&domain, ended, took, Instant::now());
        self.leaves |= passed_over > 0;
        match ended {
            RequestEnd::Answered => {
                self.outages = 0;
                self.found.append(&mut self.doubtful);
                self.found.push(looked);
                false
            }
            RequestEnd::Limited => {
                self.leaves = true;
                false
            }
            RequestEnd::Silent => {
                self.doubtful.push(looked);
                self.doubtful.len() >= OUTAGE && self.outages < MOST_OUTAGES
            }
        }
    }

    /// Stores what was found.
    fn store(&mut self, client: &mut Patient<'_>) -> Result<(), Failure> {
        self.stored_at = Instant::now();
        let mut found = std::mem::take(&mut self.found);
        if found.is_empty() {
            return Ok(());
        }
        // Rows are locked in the order of DIDs, as everywhere.
        found.sort_by(|a, b| a.claim.due.did.cmp(&b.claim.due.did));
        let (schema, stop) = (&self.database.schema, self.stop);
        let noted = client.run(|client| store(client, schema, &found, stop))?;
        self.has_noted |= !noted.is_empty();
        self.has_changed |= noted.len() < found.len();
        for one in &found {
            if noted.binary_search(&one.claim.due.did).is_ok() {
                self.counts.done.add(1);
                self.counts.add(one.learned.handle_state().0);
            }
        }
        ledger::failpoint::pass("claims");
        Ok(())
    }
}

/// The domain that an account's request goes to, first of all.
fn domain(claim: &Claim) -> String {
    let of_web = || claim.due.did.strip_prefix("did:web:");
    match (&claim.due.document, of_web()) {
        (None, Some(host)) => domain_of(&host.to_lowercase()),
        _ => domain_of(&claim.handle.as_deref().unwrap_or_default().to_lowercase()),
    }
}

/// Asks for a document, if it is old, and for the handle that it names.
async fn look(
    domain: Arc<str>,
    claim: Claim,
    documents: &resolve::Resolver,
    handles: &handle::Resolver,
) -> Answer {
    let began = Instant::now();
    let is_plc = claim.due.did.starts_with("did:plc:");
    let found = learned::document_of(&claim.due, documents).await;
    // The directory has its own pace, which is no domain's fault.
    let asked = if is_plc { Instant::now() } else { began };
    let (learned, manner) = learned::handle_of(claim.due.clone(), found, handles).await;
    let ended = match (manner, learned.handle_state().0) {
        (Some(Manner::Answered), _) => RequestEnd::Answered,
        (Some(Manner::Silent), _) => RequestEnd::Silent,
        (Some(Manner::Limited), _) => RequestEnd::Limited,
        // Nobody was asked for a handle, because the document did not come.
        (None, HandleState::Unreachable) if !is_plc => RequestEnd::Silent,
        (None, _) => RequestEnd::Answered,
    };
    Answer {
        domain,
        ended,
        took: asked.elapsed(),
        looked: Looked { claim, learned },
    }
}

/// Stores results in one transaction; the accounts that were noted, in order. Others that look up
/// accounts wait meanwhile. The AppView may write the same handles at the same moment.
fn store(
    client: &mut Client,
    schema: &str,
    found: &[Looked],
    stop: &Stop,
) -> Result<Vec<String>, DbError> {
    let mut clashes = 0;
    loop {
        let stored = try_store(client, schema, found, stop);
        match stored {
            // unique_violation
            Err(error) if error.sqlstate.as_deref() == Some("23505") && clashes < CLASHES => {
                clashes += 1;
            }
            stored => return stored,
        }
    }
}

fn try_store(
    client: &mut Client,
    schema: &str,
    found: &[Looked],
    stop: &Stop,
) -> Result<Vec<String>, DbError> {
    let mut txn = client.transaction()?;
    locks::acquire(&mut txn, Lock::Identities, Hold::Transaction, stop.waits())?;
    let documents: Vec<_> = found.iter().filter_map(|one| one.learned.note()).collect();
    if !documents.is_empty() {
        ledger::identity::note_documents(&mut txn, schema, &documents)?;
    }
    // Whose document names another handle is due now, as any account whose document changed.
    let notes = found.iter().filter_map(|one| {
        let claimed = one.learned.claimed_after(one.claim.handle.as_ref());
        Some((one.learned.handle_note(), claimed?))
    });
    let notes: Vec<(HandleNote, Option<String>)> = notes.collect();
    let mut noted = note_settled(&mut txn, schema, &notes)?;
    noted.sort_unstable();
    let settled: Vec<Settled> = found
        .iter()
        .filter(|one| noted.binary_search(&one.claim.due.did).is_ok())
        .map(settled)
        .collect();
    actors::settle(&mut txn, schema, &settled)?;
    ledger::failpoint::pass("claim");
    txn.commit()?;
    Ok(noted)
}

fn settled(one: &Looked) -> Settled {
    Settled {
        did: one.claim.due.did.clone(),
        claimed: one.claim.handle.as_deref().map(str::to_lowercase),
        is_verified: one.learned.handle_state().0 == HandleState::Verified,
    }
}
