//! The only thread of a run that talks to the ledger. It leases hosts (`leases`), hands out their
//! pending repos, and records the result for those that were not stored.
//!
//! Memory holds only a copy. When everything that was handed out is settled, the thread reads the
//! ledger again. A repo that was lost on the way, with a connection or a server, is still pending
//! there, and is handed out again.

use crate::discovery::arrivals::{Arrivals, News};
use crate::run::board::{Board, HostYield, Settled};
use crate::run::in_order::{self, InOrderFeed};
use crate::run::stragglers::Stragglers;
use crate::run::worker::{Said, WorkerOptions};
use fetch::FetchError;
use fetch::turns::Turns;
use ledger::hosts::Leased;
use ledger::open::Which;
use ledger::repos::{self, Note, Open, RetryFailed};
use ledger::states::{Inactive, State};
use ledger::workers;
use load::DbError;
use observe::registry::SlowHost;
use observe::units::{count, counted};
use observe::{Progress, registry};
use pg::{DbErrorKind, Persistent};
use postgres::Client;
use process::stop::UNTIL_HURRIED;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// So many of the hosts that take the longest are shown.
const SLOW_HOSTS: usize = 5;
/// Repos that are handed out, and of which nothing is settled yet, over all hosts.
const UNDER_WAY: u64 = 16_384;
/// Maximum number of repos of a host that are read from the ledger at once.
const PAGE: usize = 500;
/// What was learned of hosts is kept this often.
const KEEP: Duration = Duration::from_secs(20);
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
/// A worker without hosts asks this often whether there are any for it.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(1);
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
pub(crate) struct Queue {
    pub(crate) leased: Leased,
    pub(crate) page: VecDeque<Open>,
    /// The last repo that was read.
    pub(crate) cursor: String,
    /// Whether there is nothing after that.
    pub(crate) at_end: bool,
    /// Whether another worker is to have it.
    pub(crate) is_leaving: bool,
    /// Repos that are not handed out yet, about.
    pub(crate) left: u64,
    /// The last repo that was handed out.
    pub(crate) handed_out: String,
    /// What the ledger knows of what the host gave, and since when.
    pub(crate) noted: (HostYield, Instant),
    /// Its pending repos, as the ledger knows.
    pub(crate) noted_pending: Option<u64>,
    /// Repos that failed with their host, and why: the board does not count them by host.
    pub(crate) left_out: Option<(u64, String)>,
}

impl Queue {
    /// Whether nothing of it is left to hand out.
    pub(crate) fn has_none_left(&self) -> bool {
        self.at_end && self.page.is_empty()
    }
}

pub(crate) struct Feeder<'f> {
    pub(crate) url: &'f str,
    pub(crate) schema: &'f str,
    pub(crate) worker: &'f WorkerOptions,
    /// Its number in the ledger.
    pub(crate) worker_id: i32,
    /// What was said of this worker.
    pub(crate) said: Mutex<Said>,
    /// Requests that may be under way.
    pub(crate) slots: usize,
    pub(crate) board: &'f Board,
    /// Bounded by what is under way.
    pub(crate) jobs: UnboundedSender<Job>,
    pub(crate) turns: Turns,
    /// Whether repos come from hosts, which have their pace, or from an archive.
    pub(crate) from_network: bool,
    /// Whether the repos are those that a stream names, instead of lists.
    pub(crate) is_stream: bool,
    /// The news of the pass that runs beside it, if one does.
    pub(crate) arrivals: Option<&'f Arrivals>,
    /// The repos of an archive in its order, until it has come to its end.
    pub(crate) in_order: Mutex<Option<InOrderFeed>>,
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

/// When what is done from time to time was done last.
struct Rounds {
    renewed: Instant,
    kept: Instant,
    checked: Instant,
    looked: Instant,
    look_again: Duration,
    stragglers: Stragglers,
    /// Whether the progress knows how many repos there are.
    has_total: bool,
}

impl Rounds {
    fn begin(feeder: &Feeder<'_>) -> Self {
        let now = Instant::now();
        Self {
            renewed: now,
            kept: now,
            checked: now,
            looked: now,
            look_again: feeder.look_again(),
            stragglers: Stragglers::new(feeder.patience),
            has_total: feeder.arrivals.is_none(),
        }
    }
}

impl Feeder<'_> {
    /// Feeds until no repo is open. When the server goes away, it is waited for.
    ///
    /// # Errors
    /// Something that waiting does not mend.
    pub(crate) fn run(self) -> Result<Fed, DbError> {
        let mut queues: Vec<Queue> = Vec::new();
        let worker = self.worker_id;
        let fed = Persistent::new(self.url, UNTIL_HURRIED)
            .with_setup(move |client| Ok(workers::hold(client, worker)?))
            .run(|client| self.feed(client, &mut queues));
        match fed {
            // What is not written down is still pending in the ledger.
            Err(error) if error.kind == DbErrorKind::Stopped => Ok(Fed::Stopped),
            fed => fed,
        }
    }

    pub(crate) fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Feeds until it is done, or an error.
    fn feed(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<Fed, DbError> {
        let (mut rounds, mut waited) = (Rounds::begin(self), 0u32);
        // What was known of the pass when nothing was found to do.
        let mut idle_since: Option<News> = None;
        // After a while without the server, leases may be somebody else's.
        self.renew(client, queues)?;
        if queues.is_empty() {
            self.lease(client, queues)?;
        }
        loop {
            self.write_notes(client)?;
            self.keep_up(client, queues, &mut rounds)?;
            if self.board.stop.is_set() {
                let is_over = self.board.under_way() == 0 || process::stop::is_hurried();
                if is_over || self.board.broken().is_some() {
                    return self.end(client, queues, Fed::Stopped);
                }
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            self.look_around(client, queues, &mut rounds)?;
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
                && !news.is_elsewhere
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
            let is_listing = news.is_some_and(|news| !news.is_over);
            let others_list = !is_listing && self.is_listed_elsewhere(client)?;
            if open == 0 && !is_listing && !others_list {
                return self.end(client, queues, Fed::All);
            }
            if open == 0 && is_listing && news.is_some_and(|news| !news.is_elsewhere) {
                continue;
            }
            self.wait_for_others(open, &mut waited);
        }
    }

    /// Renews the leases, and keeps what was learned of hosts, each when it is time.
    fn keep_up(
        &self,
        client: &mut Client,
        queues: &mut Vec<Queue>,
        rounds: &mut Rounds,
    ) -> Result<(), DbError> {
        if rounds.renewed.elapsed() > self.worker.renew_every() {
            self.renew(client, queues)?;
            rounds.renewed = Instant::now();
        }
        if rounds.kept.elapsed() > KEEP {
            self.keep_learned(client, queues)?;
            if self.from_network {
                self.progress.needs_at_least(self.turns.slowest());
            }
            rounds.kept = Instant::now();
        }
        Ok(())
    }

    /// Looks at how hosts go on, and whether others are to be leased or given back, each when it is
    /// time.
    fn look_around(
        &self,
        client: &mut Client,
        queues: &mut Vec<Queue>,
        rounds: &mut Rounds,
    ) -> Result<(), DbError> {
        if rounds.checked.elapsed() > CHECK {
            if queues.iter().any(|queue| queue.is_leaving) {
                self.drop_empty(client, queues)?;
            }
            if self.from_network {
                self.show_hosts();
                let (passed, got) = (rounds.checked.elapsed(), self.board.progressed());
                if rounds.stragglers.check(passed, got) {
                    self.leave_stragglers(client, queues)?;
                }
            }
            rounds.checked = Instant::now();
        }
        if rounds.looked.elapsed() > rounds.look_again {
            let again =
                repos::retry_failed(client, self.schema, RetryFailed::DueBelow(MOST_FAILURES))?;
            self.board.again.add(again);
            self.drop_empty(client, queues)?;
            let asked = Instant::now();
            self.lease(client, queues)?;
            // It counts all that is open: not more than a twentieth of the time goes into that.
            if !rounds.has_total {
                rounds.has_total = self.show_total(client)?;
            }
            rounds.look_again = self.look_again().max(asked.elapsed() * 20);
            rounds.looked = Instant::now();
        }
        Ok(())
    }

    /// Shows how many repos there are, once the pass that lists them is over; whether it is.
    fn show_total(&self, client: &mut Client) -> Result<bool, DbError> {
        if !self.arrivals.is_some_and(|pass| pass.news().is_over) {
            return Ok(false);
        }
        let done = self.board.done.get();
        let open = repos::count_open(client, self.schema, self.which)?;
        self.progress.expects(done + open);
        Ok(true)
    }

    /// Waits a moment for what others do: they load the repos that are open, or look for more.
    fn wait_for_others(&self, open: u64, waited: &mut u32) {
        if waited.is_multiple_of(30) {
            match open {
                0 => observe::log!("another skyfill looks for repos; waiting"),
                _ => observe::log!(
                    "another skyfill works on what is left, {}; waiting",
                    counted(open, "repo")
                ),
            }
        }
        *waited += 1;
        std::thread::sleep(WAIT_FOR_OTHERS.min(self.worker.renew_every()));
    }

    /// How often the ledger is asked for hosts that became free or are new.
    fn look_again(&self) -> Duration {
        match self.arrivals {
            Some(arrivals) if !arrivals.news().is_over => LOOK_AGAIN_IN_PASS,
            _ => LOOK_AGAIN.min(self.worker.renew_every()),
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
        let in_turns = (load.under_way + load.waiting) as u64;
        let retried = match self.board.asking().saturating_sub(in_turns) {
            0 => String::new(),
            paused => format!(", {paused} pause before a retry"),
        };
        registry().source_detail(format!(
            "{} of {} requests are under way, {} wait for their hosts' limits{retried}",
            load.under_way, load.slots, load.waiting
        ));
    }

    /// Asks the ledger again when all that was handed out is settled; whether anything is to be
    /// handed out.
    fn read_again(&self, client: &mut Client, queues: &mut Vec<Queue>) -> Result<bool, DbError> {
        self.board.forget_leases();
        let mut any = false;
        for queue in queues.iter_mut().filter(|queue| !queue.is_leaving) {
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
        self.leave(client, queues)?;
        Ok(fed)
    }

    /// Hands out repos of each host, as many as it can be asked for soon; whether anything was
    /// handed out.
    fn hand_out(&self, client: &mut Client, queues: &mut [Queue]) -> Result<bool, DbError> {
        if let Some(any) = self.hand_out_in_order(client, queues)? {
            return Ok(any);
        }
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
            if queue.has_none_left() || queue.is_leaving {
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
            // A stream names accounts, not lists: who invents some that a host lacks is no reason
            // to leave that host alone.
            let is_listed = self.from_network && !self.is_stream;
            if is_listed && self.board.yield_of(queue.leased.lease).is_little() {
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

    /// The same in the order of an archive; nothing where there is none, or no more of it.
    fn hand_out_in_order(
        &self,
        client: &mut Client,
        queues: &[Queue],
    ) -> Result<Option<bool>, DbError> {
        let mut feed = self.in_order.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(in_order) = feed.as_mut() else {
            return Ok(None);
        };
        let leases: HashMap<&str, i64> = queues
            .iter()
            .filter(|queue| !queue.is_leaving)
            .map(|queue| (queue.leased.host.as_str(), queue.leased.lease))
            .collect();
        let room = in_order::ASKING.saturating_sub(self.board.asking());
        let mut handed_out = 0;
        while handed_out < room && self.board.under_way() < self.most_under_way {
            let Some((open, host)) = in_order.next(client, (self.schema, self.which))? else {
                // What is under way has to be settled before hosts are asked for what is left.
                if self.board.under_way() == 0 {
                    *feed = None;
                    return Ok(None);
                }
                return Ok(Some(handed_out > 0));
            };
            let Some(lease) = leases.get(host.as_str()).copied() else {
                continue;
            };
            self.board.on_handed_out(lease);
            if self.jobs.send(Job { open, host, lease }).is_err() {
                self.board.break_off("the fetching tasks have ended");
                return Ok(Some(handed_out > 0));
            }
            handed_out += 1;
        }
        Ok(Some(handed_out > 0))
    }

    /// Leaves the rest of what a host lists to later, since most of what it was asked for is not
    /// there or fails.
    fn put_off(&self, client: &mut Client, queue: &mut Queue) -> Result<(), DbError> {
        let given = self.board.yield_of(queue.leased.lease);
        let error = format!(
            "its host delivered {}, lacked {} and failed {}: the rest of its list is loaded later",
            counted(given.good, "repo"),
            count(given.absent),
            counted(given.failed, "time")
        );
        tracing::warn!("{}: {error}", queue.leased.host);
        self.fail_host(client, queue, ("host put off", &error), PUT_OFF)
    }

    /// Goes on without the repos that are left: nothing else is going on, and hardly any of them
    /// come.
    fn leave_stragglers(&self, client: &mut Client, queues: &mut [Queue]) -> Result<(), DbError> {
        let error =
            "its host delivered almost nothing, and all others were done: it is loaded later";
        for queue in queues.iter_mut().filter(|queue| !queue.is_leaving) {
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

    fn write_notes(&self, client: &mut Client) -> Result<(), DbError> {
        let documents = self.board.take_documents();
        if !documents.is_empty() {
            ledger::identity::add_documents(client, self.schema, &documents)?;
        }
        let notes = self.board.take_notes();
        let is_gone =
            |note: &Settled| matches!(note, Settled::Noted(note) if note.state == State::Deleted);
        let (gone, notes): (Vec<Settled>, Vec<Settled>) = notes.into_iter().partition(is_gone);
        if !notes.is_empty() {
            if let Err(error) = self.write(client, &notes) {
                self.board.return_notes(notes);
                self.board.return_notes(gone);
                return Err(error);
            }
            self.show_failures(&notes);
            self.board.on_noted(&notes);
        }
        if gone.is_empty() {
            return Ok(());
        }
        let mut left = VecDeque::from(gone);
        let removed = self.remove(client, &mut left);
        self.progress.doing_nothing_special();
        if self.board.stop.is_set() {
            for note in &left {
                self.board.on_lost(note.lease());
            }
        } else {
            self.board.return_notes(left.into());
        }
        removed
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
        let (mut plain, mut moved) = (Vec::new(), Vec::new());
        for note in notes {
            match note {
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
        Ok(())
    }

    /// Removes the rows of accounts that are gone, one by one, and takes these from `gone`. It ends
    /// in time to renew leases, however many there are, and at once when it is stopped.
    fn remove(&self, client: &mut Client, gone: &mut VecDeque<Settled>) -> Result<(), DbError> {
        let until = Instant::now() + self.worker.renew_every();
        let mut remover = load::Remover::connect(self.url, self.schema)?;
        let (mut at, of) = (0, gone.len());
        while let Some(Settled::Noted(note)) = gone.front()
            && !self.board.stop.is_set()
        {
            at += 1;
            self.progress.doing(format!(
                "removing the rows of accounts that are gone: {at} of {of}"
            ));
            if self.may_delete(client, note.lease)? {
                remover.remove(&note.did, note.lease)?;
            } else {
                repos::note(client, self.schema, &[doubted(note)])?;
            }
            self.board.on_noted(&gone.make_contiguous()[..1]);
            gone.pop_front();
            if Instant::now() >= until {
                break;
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

/// What is noted of an account that is gone, if that is doubtful.
fn doubted(note: &Note) -> Note {
    Note {
        state: State::Failed,
        code: Some("host forgot"),
        error: Some(
            "its host no longer has it, nor many others; are they gone? --accept-deletions removes them"
                .to_owned(),
        ),
        proof: None,
        ..note.clone()
    }
}
