//! The leases of a run: which hosts it takes and gives back, and what it writes to the ledger about
//! them.
//!
//! Of several workers, each has a share of the hosts with pending repos, by the number of its
//! requests. One that has more than its share, since another one joined, hands out no more repos of
//! the hosts that it gives back, and gives them back when nothing of them is under way.

use crate::discovery::arrivals::Arrivals;
use crate::run::board::HostYield;
use crate::run::feeder::{Feeder, Queue};
use crate::run::held::Term;
use ledger::hosts::{self, Wish};
use ledger::locks::{self, Lock};
use ledger::workers::{self, Report};
use load::DbError;
use observe::units::counted;
use postgres::Client;
use std::collections::{HashSet, VecDeque};
use std::time::Instant;

/// Most hosts that a run leases at a time; fewer where it has few requests.
const HOSTS: usize = 2048;
/// Hosts for each request that may be under way, and the fewest.
const HOSTS_PER_SLOT: usize = 4;
const FEWEST: usize = 64;

/// Which of `held` hosts, those with the most work first, a worker gives back to have `share` of
/// them: they lie evenly among the others, so that both get large ones and small ones. It keeps the
/// largest.
fn given_back(held: usize, share: usize) -> Vec<usize> {
    let surplus = held.saturating_sub(share.max(1));
    (1..=surplus)
        .map(|number| number * held / surplus - 1)
        .collect()
}

impl Feeder<'_> {
    /// Whether a pass of another process lists hosts at this moment.
    pub(crate) fn is_listed_elsewhere(&self, client: &mut Client) -> Result<bool, DbError> {
        let is_own = self
            .arrivals
            .map(Arrivals::news)
            .is_some_and(|news| news.has_begun && !news.is_over && !news.is_elsewhere);
        Ok(!is_own && locks::holder(client, Lock::Passes)?.is_some())
    }

    /// Leases hosts that have pending repos, up to its share; how many there were.
    pub(crate) fn lease(
        &self,
        client: &mut Client,
        queues: &mut Vec<Queue>,
    ) -> Result<usize, DbError> {
        let ended = workers::end_lost(client, self.schema, self.worker.lease)?;
        if ended > 0 {
            observe::log!(
                "ended {} of workers that no longer renew their leases",
                counted(ended, "session")
            );
        }
        let share = self.share(client)?;
        let staying = queues.iter().filter(|queue| !queue.is_leaving).count();
        if staying >= share {
            self.give_back(queues, share);
            return Ok(0);
        }
        let term = Term::begin(self.worker.lease);
        let wish = Wish {
            count: i64::try_from(share - staying).unwrap_or(0),
            lasts: self.worker.lease,
            leaves_unlisted: self.is_listed_elsewhere(client)?,
            ..Wish::new(self.which, 0)
        };
        let more = hosts::lease(client, self.schema, wish)?;
        let found = more.len();
        tracing::debug!(
            hosts = found,
            held = queues.len(),
            share,
            "hosts are leased"
        );
        for leased in more {
            self.board.held.on_leased(term, leased.lease);
            // One whose lease had run out unnoticed is ours again.
            if let Some(known) = queues
                .iter_mut()
                .find(|queue| queue.leased.host == leased.host)
            {
                self.board.held.on_released(&[known.leased.lease]);
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
            if let Some(pause) = leased.pause {
                self.turns.pause(&leased.host, pause);
            }
            let left = leased.open;
            queues.push(Queue {
                leased,
                page: VecDeque::new(),
                cursor: String::new(),
                at_end: false,
                is_leaving: false,
                left,
                handed_out: String::new(),
                noted: (HostYield::default(), Instant::now()),
                noted_pending: None,
                left_out: None,
            });
        }
        Ok(found)
    }

    /// How many hosts it should have now.
    fn share(&self, client: &mut Client) -> Result<usize, DbError> {
        let share = workers::share(client, self.schema, self.which)?;
        self.said().workers = share.workers;
        let most = (self.slots.saturating_mul(HOSTS_PER_SLOT)).clamp(FEWEST, HOSTS);
        Ok(match share.workers {
            0 | 1 => most,
            _ => usize::try_from(share.hosts).unwrap_or(most).min(most),
        })
    }

    /// Marks the hosts that it gives back to have no more than its share.
    fn give_back(&self, queues: &mut [Queue], share: usize) {
        if self.said().workers < 2 {
            return;
        }
        let mut staying: Vec<&mut Queue> = queues
            .iter_mut()
            .filter(|queue| !queue.is_leaving && !queue.has_none_left())
            .collect();
        staying.sort_by_key(|queue| std::cmp::Reverse(queue.left));
        for at in given_back(staying.len(), share) {
            let Some(queue) = staying.get_mut(at) else {
                continue;
            };
            tracing::debug!(host = queue.leased.host, "a host is given back");
            queue.is_leaving = true;
            queue.page.clear();
            self.turns.expect(&queue.leased.host, 0);
        }
    }

    /// Gives back the hosts that have no pending repos any more, and those that others are to have.
    pub(crate) fn drop_empty(
        &self,
        client: &mut Client,
        queues: &mut Vec<Queue>,
    ) -> Result<(), DbError> {
        let is_done = |queue: &Queue| {
            (queue.has_none_left() || queue.is_leaving)
                && self.board.under_way_at(queue.leased.lease) == 0
        };
        let done: Vec<i64> = queues
            .iter()
            .filter(|queue| is_done(queue))
            .map(|queue| queue.leased.lease)
            .collect();
        if !done.is_empty() {
            self.keep_learned(client, queues)?;
            hosts::release(client, self.schema, &done)?;
            self.board.held.on_released(&done);
            queues.retain(|queue| !done.contains(&queue.leased.lease));
        }
        Ok(())
    }

    /// Renews all leases; the hosts of those that are lost are somebody else's now.
    pub(crate) fn renew(
        &self,
        client: &mut Client,
        queues: &mut Vec<Queue>,
    ) -> Result<(), DbError> {
        let leases: Vec<i64> = queues.iter().map(|queue| queue.leased.lease).collect();
        let report = self.report(queues);
        let term = Term::begin(self.worker.lease);
        let held = workers::renew(client, self.schema, &leases, self.worker.lease, &report)?;
        let held: HashSet<i64> = held.into_iter().collect();
        for lost in queues
            .iter()
            .filter(|queue| !held.contains(&queue.leased.lease))
        {
            self.said().report.leases_lost += 1;
            tracing::warn!(
                host = lost.leased.host,
                lease = lost.leased.lease,
                "a lease is lost: another worker has the host"
            );
        }
        queues.retain(|queue| held.contains(&queue.leased.lease));
        self.board.held.on_renewed(term, held);
        Ok(())
    }

    fn report(&self, queues: &[Queue]) -> Report {
        let (repos, failed) = self.board.stored_and_failed();
        let sizes = (self.board.records.get(), self.board.bytes.get());
        let pending = queues.iter().map(|queue| self.pending(queue)).sum();
        let under_way = self.turns.load().under_way as u64;
        let mut said = self.said();
        said.update((repos, failed), sizes);
        (said.report.pending, said.report.under_way) = (pending, under_way);
        said.report
    }

    /// Gives all leases back, and leaves.
    pub(crate) fn leave(&self, client: &mut Client, queues: &mut [Queue]) -> Result<(), DbError> {
        self.keep_learned(client, queues)?;
        let leases: Vec<i64> = queues.iter().map(|queue| queue.leased.lease).collect();
        workers::renew(
            client,
            self.schema,
            &leases,
            self.worker.lease,
            &self.report(queues),
        )?;
        hosts::release(client, self.schema, &leases)?;
        workers::leave(client)?;
        Ok(())
    }

    /// Keeps what was learned of the hosts for whoever has them next, and what they gave.
    pub(crate) fn keep_learned(
        &self,
        client: &mut Client,
        queues: &mut [Queue],
    ) -> Result<(), DbError> {
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
            let mut pauses = self.turns.pauses();
            pauses.retain(|(host, _)| ours.contains(host.as_str()));
            if !pauses.is_empty() {
                hosts::note_pauses(client, self.schema, &pauses)?;
            }
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
        let left = if queue.has_none_left() { 0 } else { queue.left };
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_lies_evenly_among_what_is_kept_and_leaves_the_share() {
        for (held, share, given) in [
            (8, 4, vec![1, 3, 5, 7]),
            (3, 2, vec![2]),
            (4, 3, vec![3]),
            (2, 2, vec![]),
            (1, 0, vec![]),
            (0, 3, vec![]),
        ] {
            let found = given_back(held, share);
            assert_eq!(found, given, "{held} {share}");
        }
        for held in 1..200 {
            for share in 1..=held {
                let given: HashSet<usize> = given_back(held, share).into_iter().collect();
                assert_eq!(given.len(), held - share);
                assert!(given.iter().all(|at| *at < held));
            }
        }
    }
}
