//! Bounds the slots that the hosts of one domain hold. The owner of a domain can name any number of
//! hosts in it, so a bound per host is not enough. The slots of the domain are bounded as well, and
//! domains whose requests hold slots for long come last.

use super::host_id::HostId;
use std::collections::BTreeSet;
use std::time::Duration;

/// Slot seconds per response above which a domain comes after others, and above which it comes
/// last.
const SLOW: f64 = 2.0;
const SLOWEST: f64 = 8.0;
/// Share of earlier measurements that remains with each request that ends: about fifty requests
/// count.
const REMEMBERED: f64 = 0.98;

/// The place of a host that waits for a slot of its domain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parked {
    place: (u64, HostId),
    is_unproven: bool,
}

/// One domain.
#[derive(Debug, Default)]
pub(super) struct Domain {
    under_way: usize,
    /// Slots among them held by hosts that had not responded recently when they got the request.
    unproven: usize,
    /// Slot seconds and responses, recent ones weighted most.
    occupied: f64,
    answers: f64,
    counted_at: Duration,
    next_place: u64,
    parked: BTreeSet<(u64, HostId)>,
    parked_unproven: BTreeSet<(u64, HostId)>,
}

impl Domain {
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    pub(super) fn unproven(&self) -> usize {
        self.unproven
    }

    #[allow(clippy::cast_precision_loss)]
    fn count_up(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.counted_at).as_secs_f64();
        self.occupied += passed * self.under_way as f64;
        self.counted_at = self.counted_at.max(now);
    }

    pub(super) fn takes_slot(&mut self, now: Duration, is_unproven: bool) {
        self.count_up(now);
        self.under_way += 1;
        self.unproven += usize::from(is_unproven);
    }

    pub(super) fn gives_back(&mut self, now: Duration, was_unproven: bool, has_answered: bool) {
        self.count_up(now);
        self.under_way = self.under_way.saturating_sub(1);
        self.unproven = self.unproven.saturating_sub(usize::from(was_unproven));
        self.occupied *= REMEMBERED;
        self.answers = self.answers * REMEMBERED + f64::from(u8::from(has_answered));
    }

    /// 0 for a domain whose responses cost little slot time, 2 for one whose responses cost the
    /// most.
    pub(super) fn cost_class(&mut self, now: Duration) -> u8 {
        self.count_up(now);
        let cost = self.occupied / self.answers.max(1.0);
        u8::from(cost > SLOW) + u8::from(cost > SLOWEST)
    }

    /// Makes a host wait for a slot, after those that wait already.
    pub(super) fn park(&mut self, id: HostId, is_unproven: bool) -> Parked {
        self.next_place += 1;
        let place = (self.next_place, id);
        self.line(is_unproven).insert(place);
        Parked { place, is_unproven }
    }

    pub(super) fn unpark(&mut self, parked: Parked) {
        self.line(parked.is_unproven).remove(&parked.place);
    }

    /// The hosts that may try again after a slot was returned: the first of either queue.
    pub(super) fn first_parked(&self) -> [Option<HostId>; 2] {
        [&self.parked, &self.parked_unproven].map(|line| line.first().map(|(_, id)| *id))
    }

    fn line(&mut self, is_unproven: bool) -> &mut BTreeSet<(u64, HostId)> {
        if is_unproven {
            &mut self.parked_unproven
        } else {
            &mut self.parked
        }
    }
}
