//! Finds lost events by holes in the audit serial.
//!
//! The kernel counts every event, so that a serial which never came is an event that was lost: on Linux 6.18, with
//! system call, login, PAM and account records of a whole session, the multicast group showed no hole and no step back.
//! Serials of concurrent events may overtake each other, so that a hole counts only after [`SETTLE`]. Bounded: with
//! too many holes open, the oldest counts at once. What comes after its hole was declared only makes the declared loss
//! greater than the true one, never smaller.

use std::collections::VecDeque;

use super::record::Stamp;

/// Events that did not come, with the time around them in Unix nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    pub first: u32,
    pub last: u32,
    pub from: u64,
    pub to: u64,
    /// When it opened, the caller's clock, milliseconds.
    pub seen: u64,
}

#[derive(Debug, Default)]
pub struct Serials {
    /// The greatest so far.
    last: Option<Stamp>,
    open: VecDeque<Hole>,
}

/// How long a hole may still be filled by an event that was overtaken, milliseconds. A record's serial is drawn when
/// the record is begun and the record queued when it is written: the two lie microseconds to a few scheduling turns apart.
pub const SETTLE: u64 = 500;

/// Most holes open at once.
const OPEN_MAX: usize = 256;

/// A step ahead greater than this is another kernel's counter, or nonsense: no host loses so many events at once.
const STEP_MAX: u32 = u32::MAX / 2;

impl Serials {
    /// Goes on after a serial that was seen before, in the same boot.
    pub fn resume(&mut self, last: Stamp) {
        self.last = Some(last);
    }

    pub fn last(&self) -> Option<Stamp> {
        self.last
    }

    pub fn observe(&mut self, stamp: Stamp, now: u64) {
        let Some(last) = self.last else {
            self.last = Some(stamp);
            return;
        };
        let step = stamp.serial.wrapping_sub(last.serial);
        if step == 0 {
            return;
        }
        if step > STEP_MAX {
            self.fill(stamp.serial);
            return;
        }
        if step > 1 {
            let (first, last_missing) = (last.serial.wrapping_add(1), stamp.serial.wrapping_sub(1));
            let (from, to) = (last.nanoseconds(), stamp.nanoseconds());
            self.open.push_back(Hole { first, last: last_missing, from, to, seen: now });
        }
        self.last = Some(stamp);
    }

    /// The holes that stay: nothing fills them any more.
    pub fn settled(&mut self, now: u64) -> Option<Hole> {
        let oldest = self.open.front()?;
        let due = self.open.len() > OPEN_MAX || oldest.seen.saturating_add(SETTLE) <= now;
        if due { self.open.pop_front() } else { None }
    }

    /// When [`Self::settled`] has something to give.
    pub fn deadline(&self) -> Option<u64> {
        self.open.front().map(|hole| hole.seen.saturating_add(SETTLE))
    }

    fn fill(&mut self, serial: u32) {
        let Some(at) = self.open.iter().position(|hole| hole.contains(serial)) else { return };
        let Some(hole) = self.open.remove(at) else { return };
        let before = (hole.first != serial).then(|| Hole { last: serial.wrapping_sub(1), ..hole.clone() });
        let after = (hole.last != serial).then(|| Hole { first: serial.wrapping_add(1), ..hole });
        // Both keep their age, so that the queue stays ordered by it.
        for part in [after, before].into_iter().flatten() {
            self.open.insert(at, part);
        }
    }
}

impl Hole {
    fn contains(&self, serial: u32) -> bool {
        serial.wrapping_sub(self.first) <= self.last.wrapping_sub(self.first)
    }

    /// Events missing.
    pub fn count(&self) -> u64 {
        u64::from(self.last.wrapping_sub(self.first)) + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp(serial: u32) -> Stamp {
        Stamp { seconds: 1, milliseconds: 0, serial }
    }

    fn lost(serials: &mut Serials) -> u64 {
        std::iter::from_fn(|| serials.settled(u64::MAX)).map(|hole| hole.count()).sum()
    }

    #[test]
    fn a_hole_counts_only_after_it_settled() {
        let mut serials = Serials::default();
        serials.observe(stamp(5), 0);
        serials.observe(stamp(9), 10);
        assert_eq!(serials.settled(10), None);
        serials.observe(stamp(7), 20);
        assert_eq!(serials.deadline(), Some(10 + SETTLE));
        assert_eq!(lost(&mut serials), 2);
    }

    #[test]
    fn the_counter_may_wrap() {
        let mut serials = Serials::default();
        serials.observe(stamp(u32::MAX - 1), 0);
        serials.observe(stamp(1), 0);
        assert_eq!(lost(&mut serials), 2);
    }

    proptest! {
        /// Any subset of a run of serials, slightly out of order: what is declared is exactly what is missing.
        #[test]
        fn declared_is_what_is_missing(present in proptest::collection::vec(any::<bool>(), 2..300), start in any::<u32>(), swaps in proptest::collection::vec(1usize..300, 0..40)) {
            let mut order: Vec<u32> = (0u32..).zip(&present).filter(|(_, there)| **there).map(|(i, _)| start.wrapping_add(i)).collect();
            prop_assume!(order.len() > 2);
            for at in swaps {
                let at = at % (order.len() - 1);
                if at > 0 { order.swap(at, at + 1); }
            }
            let mut serials = Serials::default();
            for serial in &order { serials.observe(stamp(*serial), 0); }
            let (least, greatest) = order.iter().map(|s| s.wrapping_sub(start)).fold((u32::MAX, 0), |(a, b), s| (a.min(s), b.max(s)));
            let expected = u64::from(greatest - least) + 1 - order.len() as u64;
            prop_assert_eq!(lost(&mut serials), expected);
        }
    }
}
