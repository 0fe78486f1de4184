//! The only thread of a run that talks to the ledger. It leases hosts, hands out their pending
//! repos, and records the result for those that were not stored.
//!
//! Memory holds only a copy. When everything that was handed out is settled, the thread reads the
//! ledger again. A repo that was lost on the way, with a connection or a server, is still pending
//! there, and is handed out again.

use crate::discovery::arrivals::{Arrivals, News};
use crate::run::board::{Board, HostYield, Settled};
use crate::run::stragglers::Stragglers;
use fetch::FetchError;
use fetch::turns::Turns;
use ledger::hosts::{self, Leased};
use ledger::open::Which;
use ledger::repos::{self, Note, Open, RetryFailed};
use ledger::states::{Inactive, State};
use load::DbError;
use observe::registry::SlowHost;
use observe::{Progress, registry};
use pg::{DbErrorKind, Persistent};
use postgres::Client;
use process::stop::UNTIL_HURRIED;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Hosts that a run leases at a time.
const HOSTS: usize = 2048;
/// So many of the hosts that take the longest are shown.
const SLOW_HOSTS: usize = 5;
/// Repos that are handed out, and of which nothing is settled yet, over all hosts.
const UNDER_WAY: u64 = 16_384;
/// Maximum number of repos of a host that are read from the ledger at once.
const PAGE: usize = 500;
/// Leases are renewed this often: three times in the time that one lasts.
const RENEW: Duration = Duration::from_secs(20);
/// So many accounts may go from any host in a run.
const FEW_DELETIONS: u64 = 20;
/// What a host that gives too little lists beside that is left alone for so long.
const PUT_OFF: Duration = Duration::from_secs(24 * 3600);
/// A host that hardly gives anything is left alone for so long.
const LEFT: Duration = Duration::from_secs(3600);
/// What comes is looked at this often.
const CHECK: Duration = Duration::from_secs(1);
/// A repo that failed so often is left to a later run.
const MOST_FAILURES: i32 = 3;
/// The ledger is asked this often for hosts that became free or are new, and for failed repos whose
/// time has come.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// The same while a pass lists hosts.
const LOOK_AGAIN_IN_PASS: Duration = Duration::from_secs(1);
/// News of a pass are waited for this long.
const NEWS: Duration = Duration::from_millis(200);

/// A repo to be loaded.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) open: Open,
    pub(crate) host: String,
    pub(crate) lease: i64,
}

/// A leased host and its repos that were read, but not handed out.
struct Queue {
    leased: Leased,
    page: VecDeque<Open>,
    /// The last repo that was read.
    cursor: String,
    /// Whether there is nothing after that.
    at_end: bool,
    /// Repos that are not handed out yet, about.
    left: u64,
    /// The last repo that was handed out.
    handed_out: String,
    /// What the ledger knows of what the host gave, and since when.
    noted: (HostYield, Instant),
    /// Its pending repos, as the ledger knows.
    noted_pending: Option<u64>,
    /// Repos that failed with their host, and why: the board does not count them by host.
    left_out: Option<(u64, String)>,
}

pub(crate) struct Feeder<'f> {
    pub(crate) url: &'f str,
    pub(crate) schema: &'f str,
    pub(crate) board: &'f Board,
    /// Bounded by what is under way.
    pub(crate) jobs: UnboundedSender<Job>,
    pub(crate) turns: Turns,
    /// Whether repos come from hosts, which have their pace, or from an archive.
    pub(crate) from_network: bool,
    /// The news of the pass that runs beside it, if one does.
    pub(crate) arrivals: Option<&'f Arrivals>,
    /// Which of the pending repos are loaded.
    pub(crate) which: Which,
    pub(crate) most_under_way: u64,
    pub(crate) progress: &'f Progress,
    /// Whether a host may lose any share of its accounts.
    pub(crate) accept_deletions: bool,
    /// By lease: accounts that were removed, and that were stored when they were counted.
    pub(crate) deletions: Mutex<HashMap<i64, (u64, Option<u64>)>>,
    /// How long hosts that hardly give anything are waited for when nothing else goes on.
    pub(crate) patience: Duration,
}

/// Repos that may be under way with so many slots.
pub(crate) fn most_under_way(slots: usize) -> u64 {
    (slots as u64 * 32).min(UNDER_WAY)
}

/// How feeding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fed {
    /// No repo is open.
    All,
    /// It was stopped.
    Stopped,
}

impl Feeder<'_> {
    /// Feeds until no repo is open. When the server goes away, it is waited for.
    ///
    /// # Errors
    /// Something that waiting does not mend.
    pub(crate) fn run(self) -> Result<Fed, DbError> {
        let mut queues: Vec<Queue> = Vec::new();
        let fed = Persistent::new(self.url, UNTIL_HURRIED)
            .with_setup(|client| Ok(hosts::enter(client)?))
            .run(|client| self.feed(client, &mut queues));
        match fed {
            // What is not written down is still pending in the ledger.
            Err(error) if error.kind == DbErrorKind::Stopped => Ok(Fed::Stopped),
            fed => fed,
        }
    }

    /// Feeds until it is done, or an error.
    fn feed(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<Fed, DbError> {
        let (mut renewed, mut looked) = (Instant::now(), Instant::now());
        let (mut waiting_for_others, mut look_again) = (0u32, self.look_again());
        // What was known of the pass when nothing was found to do.
        let mut idle_since: Option<News> = None;
        let (mut stragglers, mut checked) = (Stragglers::new(self.patience), Instant::now());
        // After a while without the server, leases may be somebody else's.
        self.renew(client, queues)?;
        if queues.is_empty() {
            self.lease(client, queues)?;
        }
        loop {
            self.write_notes(client)?;
            if renewed.elapsed() > RENEW {
                self.renew(client, queues)?;
                self.keep_learned(client, queues)?;
                if self.from_network {
                    self.progress.needs_at_least(self.turns.slowest());
                }
                renewed = Instant::now();
            }
            if self.board.stop.is_set() {
                let is_over = self.board.under_way() == 0 || process::stop::is_hurried();
                if is_over || self.board.broken().is_some() {
                    return self.end(client, queues, Fed::Stopped);
                }
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            if checked.elapsed() > CHECK && self.from_network {
                self.show_hosts();
                if stragglers.check(checked.elapsed(), self.board.progressed()) {
                    self.leave_stragglers(client, queues)?;
                }
                checked = Instant::now();
            }
            if looked.elapsed() > look_again {
                let again =
                    repos::retry_failed(client, self.schema, RetryFailed::DueBelow(MOST_FAILURES))?;
                self.board.again.add(again);
                self.drop_empty(client, queues)?;
                let asked = Instant::now();
                self.lease(client, queues)?;
                // It counts all that is open: not more than a twentieth of the time goes into that.
                look_again = self.look_again().max(asked.elapsed() * 20);
                looked = Instant::now();
            }
            if self.hand_out(client, queues)? {
                continue;
            }
            if self.board.under_way() > 0 {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            }
            let news = self.arrivals.map(Arrivals::news);
            if let (Some(arrivals), Some(news)) = (self.arrivals, news)
                && !news.is_over
                && idle_since == Some(news)
            {
                arrivals.wait(news, NEWS);
                continue;
            }
            idle_since = news;
            if self.read_again(client, queues)? {
                continue;
            }
            let open = repos::count_open(client, self.schema, self.which)?;
            if open == 0 && news.is_none_or(|news| news.is_over) {
                return self.end(client, queues, Fed::All);
            }
            if open == 0 {
                continue;
            }
            if waiting_for_others.is_multiple_of(30) {
                observe::log!("another skyfill works on the {open} repos that are left; waiting");
            }
            waiting_for_others += 1;
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    /// How often the ledger is asked for hosts that became free or are new.
    fn look_again(&self) -> Duration {
        match self.arrivals {
            Some(arrivals) if !arrivals.news().is_over => LOOK_AGAIN_IN_PASS,
            _ => LOOK_AGAIN,
        }
    }

    /// Shows which hosts take the longest, and how many requests are under way.
    fn show_hosts(&self) {
        let hosts = self.turns.slowest_hosts(SLOW_HOSTS).into_iter();
        let slow_host = |(name, left, rate): (String, Duration, f64)| SlowHost {
            name,
            seconds_left: left.as_secs_f64(),
            rate,
        };
        self.progress.slow_hosts(hosts.map(slow_host).collect());
        let load = self.turns.load();
        registry().source_detail(format!(
            "{} of {} requests are under way, {} wait for their hosts' limits",
            load.under_way, load.slots, load.waiting
        ));
    }

    /// Asks the ledger again when all that was handed out is settled; whether anything is to be
    /// handed out.
    fn read_again(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<bool, DbError> {
        self.board.forget_leases();
        let mut any = false;
        for queue in &mut *queues {
            queue.page.clear();
            queue.cursor.clear();
            // Nothing is under way: what is pending is neither coming nor settled by somebody else.
            queue.handed_out.clear();
            self.read(client, queue)?;
            any |= !queue.page.is_empty();
        }
        self.drop_empty(client, queues)?;
        Ok(any || self.lease(client, queues)? > 0)
    }

    fn end(&self, client: &mut Client, queues: &mut [Queue], fed: Fed) -> Result<Fed, DbError> {
        self.write_notes(client)?;
        self.keep_learned(client, queues)?;
        let leases: Vec<i64> = queues.iter().map(|queue| queue.leased.lease).collect();
        hosts::release(client, self.schema, &leases)?;
        Ok(fed)
    }

    /// Leases hosts that have pending repos, as many as there is room for; how many there were.
    fn lease(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<usize, DbError> {
        if queues.len() >= HOSTS {
            return Ok(0);
        }
        let count = i64::try_from(HOSTS - queues.len()).unwrap_or(0);
        let more = hosts::lease(client, self.schema, self.which, count)?;
        let found = more.len();
        tracing::debug!(hosts = found, held = queues.len(), "hosts are leased");
        for leased in more {
            // One whose lease had run out unnoticed is ours again.
            if let Some(known) = queues
                .iter_mut()
                .find(|queue| queue.leased.host == leased.host)
            {
                known.leased.lease = leased.lease;
                known.noted = (HostYield::default(), Instant::now());
                continue;
            }
            if let Some(learned) = leased
                .learned
                .as_deref()
                .and_then(|text| serde_json::from_str(text).ok())
            {
                self.turns.learn(&leased.host, &learned);
            }
            let left = leased.open;
            queues.push(Queue {
                leased,
                page: VecDeque::new(),
                cursor: String::new(),
                at_end: false,
                left,
                handed_out: String::new(),
                noted: (HostYield::default(), Instant::now()),
                noted_pending: None,
                left_out: None,
            });
        }
        Ok(found)
    }

    /// Gives back the hosts that have no pending repos any more.
    fn drop_empty(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<(), DbError> {
        let is_empty = |queue: &Queue| {
            queue.at_end
                && queue.page.is_empty()
                && self.board.under_way_at(queue.leased.lease) == 0
        };
        let empty: Vec<i64> = queues
            .iter()
            .filter(|queue| is_empty(queue))
            .map(|queue| queue.leased.lease)
            .collect();
        if !empty.is_empty() {
            self.keep_learned(client, queues)?;
            hosts::release(client, self.schema, &empty)?;
            queues.retain(|queue| !empty.contains(&queue.leased.lease));
        }
        Ok(())
    }

    /// Hands out repos of each host, as many as it can be asked for soon; whether anything was
    /// handed out.
    fn hand_out(&self, client: &mut Client, queues: &mut [Queue]) -> Result<bool, DbError> {
        let mut any = false;
        // Not the same ones first each time: what may be under way is bounded.
        if !queues.is_empty() {
            queues.rotate_left(1);
        }
        // No host may have so many waiting that there is no room for those of others.
        let most_each =
            usize::try_from(self.most_under_way).unwrap_or(usize::MAX) / queues.len().max(1);
        let most_each = most_each.max(2);
        for queue in queues.iter_mut() {
            if queue.at_end && queue.page.is_empty() {
                continue;
            }
            if let Some(away_for) = self
                .turns
                .away_for(&queue.leased.host)
                .filter(|_| self.from_network)
            {
                let error = FetchError::HostAway(away_for);
                self.fail_host(
                    client,
                    queue,
                    (error.reason(), &error.to_string()),
                    away_for,
                )?;
                continue;
            }
            if self.from_network && self.board.yield_of(queue.leased.lease).is_little() {
                self.put_off(client, queue)?;
                continue;
            }
            let room = if self.from_network {
                self.turns.room(&queue.leased.host).min(most_each)
            } else {
                PAGE
            };
            self.turns.expect(
                &queue.leased.host,
                if self.from_network { queue.left } else { 0 },
            );
            for _ in 0..room {
                if self.board.under_way() >= self.most_under_way {
                    return Ok(any);
                }
                if queue.page.is_empty() && !queue.at_end {
                    self.read(client, queue)?;
                }
                let Some(open) = queue.page.pop_front() else {
                    break;
                };
                queue.left = queue.left.saturating_sub(1);
                queue.handed_out.clone_from(&open.did);
                let job = Job {
                    open,
                    host: queue.leased.host.clone(),
                    lease: queue.leased.lease,
                };
                self.board.on_handed_out(job.lease);
                if self.jobs.send(job).is_err() {
                    self.board.break_off("the fetching tasks have ended");
                    return Ok(any);
                }
                any = true;
            }
        }
        Ok(any)
    }

    /// Leaves the rest of what a host lists to later, since most of what it was asked for is not
    /// there or fails.
    fn put_off(&self, client: &mut Client, queue: &mut Queue) -> Result<(), DbError> {
        let given = self.board.yield_of(queue.leased.lease);
        let error = format!(
            "its host delivered {} repos, lacked {} and failed {} times: the rest of its list is loaded later",
            given.good, given.absent, given.failed
        );
        tracing::warn!("{}: {error}", queue.leased.host);
        self.fail_host(client, queue, ("host put off", &error), PUT_OFF)
    }

    /// Goes on without the repos that are left: nothing else is going on, and hardly any of them
    /// come.
    fn leave_stragglers(&self, client: &mut Client, queues: &mut [Queue]) -> Result<(), DbError> {
        let error =
            "its host delivered almost nothing, and all others were done: it is loaded later";
        for queue in queues {
            let is_busy = self.board.under_way_at(queue.leased.lease) > 0;
            if is_busy || !queue.at_end || !queue.page.is_empty() {
                tracing::warn!("{}: {error}", queue.leased.host);
                self.turns.leave(&queue.leased.host, LEFT);
                self.fail_host(client, queue, ("host too slow", error), LEFT)?;
            }
        }
        Ok(())
    }

    /// Notes that the repos of a host that are not asked for now have failed, until they are tried
    /// again.
    fn fail_host(
        &self,
        client: &mut Client,
        queue: &mut Queue,
        (code, error): (&str, &str),
        retry_in: Duration,
    ) -> Result<(), DbError> {
        let failed = repos::fail_host(
            client,
            self.schema,
            (&queue.leased.host, queue.leased.lease),
            // Those that are under way end by themselves.
            &queue.handed_out,
            (code, error),
            retry_in,
        )?;
        self.board.on_host_failed(failed);
        self.progress.failed(code, failed);
        tracing::debug!(
            host = queue.leased.host,
            code,
            repos = failed,
            "the rest of the host's repos failed"
        );
        queue.page.clear();
        queue.at_end = true;
        queue.left = 0;
        let before = queue.left_out.take().map_or(0, |(repos, _)| repos);
        queue.left_out = Some((before + failed, code.to_owned()));
        self.turns.expect(&queue.leased.host, 0);
        Ok(())
    }

    /// Keeps what was learned of the hosts' limits for the next run, and what they gave.
    fn keep_learned(&self, client: &mut Client, queues: &mut [Queue]) -> Result<(), DbError> {
        if self.from_network {
            let ours: HashSet<&str> = queues
                .iter()
                .map(|queue| queue.leased.host.as_str())
                .collect();
            let learned: Vec<(String, String)> = self
                .turns
                .learned()
                .into_iter()
                .filter(|(host, _)| ours.contains(host.as_str()))
                .filter_map(|(host, learned)| Some((host, serde_json::to_string(&learned).ok()?)))
                .collect();
            hosts::learn(client, self.schema, &learned)?;
        }
        let gave: Vec<hosts::Gave> = queues
            .iter()
            .map(|queue| (queue.noted_pending, self.gave(queue)))
            .filter(|(noted, gave)| {
                gave.given + gave.absent + gave.failed > 0 || *noted != Some(gave.pending)
            })
            .map(|(_, gave)| gave)
            .collect();
        if gave.is_empty() {
            return Ok(());
        }
        hosts::note_given(client, self.schema, &gave)?;
        for queue in queues {
            queue.noted_pending = Some(self.pending(queue));
            queue.noted = (self.board.yield_of(queue.leased.lease), Instant::now());
            queue.left_out = None;
        }
        Ok(())
    }

    /// Repos of a host whose result is not known yet, about.
    fn pending(&self, queue: &Queue) -> u64 {
        let is_empty = queue.at_end && queue.page.is_empty();
        let left = if is_empty { 0 } else { queue.left };
        left + self.board.under_way_at(queue.leased.lease)
    }

    /// What a host gave that the ledger does not know of.
    #[allow(clippy::cast_precision_loss)]
    fn gave(&self, queue: &Queue) -> hosts::Gave {
        let (now, (before, since)) = (self.board.yield_of(queue.leased.lease), queue.noted);
        let (left_out, why) = match &queue.left_out {
            Some((repos, why)) => (*repos, Some(why.as_str())),
            None => (0, None),
        };
        let more = |pick: fn(HostYield) -> u64| pick(now).saturating_sub(pick(before));
        let (given, absent) = (more(|y| y.good), more(|y| y.absent));
        let failed = more(|y| y.failed);
        let is_new_trouble = failed > 0;
        hosts::Gave {
            host: queue.leased.host.clone(),
            given,
            absent,
            failed: failed + left_out,
            records: more(|y| y.records),
            bytes: more(|y| y.bytes),
            pending: self.pending(queue),
            pace: (given + absent + failed) as f64 / since.elapsed().as_secs_f64().max(0.1),
            trouble: why
                .or(now.trouble.filter(|_| is_new_trouble))
                .map(str::to_owned),
        }
    }

    /// Reads the next page of a host: what it gets in some seconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn read(&self, client: &mut Client, queue: &mut Queue) -> Result<(), DbError> {
        let count = if self.from_network {
            (self.turns.room(&queue.leased.host) * 4).clamp(16, PAGE)
        } else {
            PAGE
        };
        let page = repos::open(
            client,
            self.schema,
            (&queue.leased.host, self.which),
            &queue.cursor,
            i64::try_from(count).unwrap_or(0),
        )?;
        queue.at_end = page.len() < count;
        if let Some(last) = page.last() {
            queue.cursor.clone_from(&last.did);
        }
        queue.page.extend(page);
        Ok(())
    }

    /// Renews all leases; the hosts of those that are lost are somebody else's now.
    fn renew(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<(), DbError> {
        let leases: Vec<i64> = queues.iter().map(|queue| queue.leased.lease).collect();
        let held = hosts::renew(client, self.schema, &leases)?;
        for lost in queues
            .iter()
            .filter(|queue| !held.contains(&queue.leased.lease))
        {
            tracing::debug!(
                host = lost.leased.host,
                lease = lost.leased.lease,
                "a lease is lost"
            );
        }
        queues.retain(|queue| held.contains(&queue.leased.lease));
        Ok(())
    }

    fn write_notes(&self, client: &mut Client) -> Result<(), DbError> {
        let documents = self.board.take_documents();
        if !documents.is_empty() {
            ledger::identity::add_documents(client, self.schema, &documents)?;
        }
        let notes = self.board.take_notes();
        if notes.is_empty() {
            return Ok(());
        }
        match self.write(client, &notes) {
            Ok(()) => {
                self.show_failures(&notes);
                self.board.on_noted(&notes);
                Ok(())
            }
            Err(error) => {
                self.board.return_notes(notes);
                Err(error)
            }
        }
    }

    fn show_failures(&self, notes: &[Settled]) {
        for note in notes {
            if let Settled::Noted(Note {
                state: State::Failed,
                code,
                ..
            }) = note
            {
                self.progress.failed(code.unwrap_or("no reason"), 1);
            }
        }
    }

    fn write(&self, client: &mut Client, notes: &[Settled]) -> Result<(), DbError> {
        let (mut plain, mut deleted, mut moved) = (Vec::new(), Vec::new(), Vec::new());
        for note in notes {
            match note {
                Settled::Noted(note) if note.state == State::Deleted => deleted.push(note.clone()),
                Settled::Noted(note) => plain.push(note.clone()),
                Settled::Moved(to) => moved.push(to.clone()),
            }
        }
        // A repo whose rev its PDS confirmed is of an active account.
        let states: Vec<(&str, Option<Inactive>)> = plain
            .iter()
            .filter_map(|note| {
                let inactive = Inactive::of(note.state);
                let is_known = note.state == State::Loaded || inactive.is_some();
                is_known.then_some((note.did.as_str(), inactive))
            })
            .collect();
        let mut txn = client.transaction()?;
        repos::note(&mut txn, self.schema, &plain)?;
        repos::moved(&mut txn, self.schema, &moved)?;
        load::store_states(&mut txn, self.schema, &states)?;
        txn.commit()?;
        if !deleted.is_empty() {
            let mut remover = load::Remover::connect(self.url, self.schema)?;
            for note in &deleted {
                if self.may_delete(client, note.lease)? {
                    remover.remove(&note.did, note.lease)?;
                } else {
                    let doubted = Note {
                        state: State::Failed,
                        code: Some("host forgot"),
                        error: Some(
                            "its host no longer has it, nor many others; are they gone? --accept-deletions removes them"
                                .to_owned(),
                        ),
                        proof: None,
                        ..note.clone()
                    };
                    repos::note(client, self.schema, &[doubted])?;
                }
            }
        }
        Ok(())
    }

    /// Whether another account of a host may be removed: a host that lost many at once may have
    /// lost its disk.
    fn may_delete(&self, client: &mut Client, lease: i64) -> Result<bool, DbError> {
        if self.accept_deletions {
            return Ok(true);
        }
        let mut deletions = self
            .deletions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (removed, stored) = deletions.entry(lease).or_default();
        if *removed >= FEW_DELETIONS {
            let stored = match stored {
                Some(stored) => *stored,
                None => *stored.insert(repos::count_stored(client, self.schema, lease)? + *removed),
            };
            if *removed >= stored / 10 {
                return Ok(false);
            }
        }
        *removed += 1;
        Ok(true)
    }
}
