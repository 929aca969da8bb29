//! What an address may do at once, and how soon again.
//!
//! Each address has an allowance that refills with time. What is remembered is bounded: beyond [`ADDRESSES_MAX`]
//! addresses the one that was refilled longest ago is forgotten. IPv6 addresses count by /64.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered at a time; some 400 KiB.
pub const ADDRESSES_MAX: usize = 4096;

/// The allowances of all addresses.
#[derive(Debug)]
pub struct Allowances {
    burst: u32,
    refill: Duration,
    left: Mutex<HashMap<IpAddr, Left>>,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    count: u32,
    /// From when the next refill is counted.
    since: Instant,
}

impl Allowances {
    /// `burst` at once, then one more each time `refill` has passed.
    pub fn new(burst: u32, refill: Duration) -> Self {
        Self { burst, refill, left: Mutex::default() }
    }

    /// How long the address has to wait, if it has nothing left.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.refilled(*all.get(&network(address))?, now);
        (left.count == 0).then(|| (left.since + self.refill).saturating_duration_since(now))
    }

    /// Takes one. Gives whether it was the last.
    pub fn take(&self, address: IpAddr, now: Instant) -> bool {
        let mut all = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let key = network(address);
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&key) {
            all.retain(|_, left| self.refilled(*left, now).count < self.burst);
            if all.len() >= ADDRESSES_MAX
                && let Some(oldest) = all.iter().min_by_key(|(_, left)| left.since).map(|(key, _)| *key)
            {
                all.remove(&oldest);
            }
        }
        let left = all.entry(key).or_insert(Left { count: self.burst, since: now });
        *left = self.refilled(*left, now);
        let last = left.count == 1;
        left.count = left.count.saturating_sub(1);
        last
    }

    fn refilled(&self, mut left: Left, now: Instant) -> Left {
        let steps = now.saturating_duration_since(left.since).as_nanos() / self.refill.as_nanos().max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).min(self.burst);
        left.count = left.count.saturating_add(steps).min(self.burst);
        left.since = if left.count == self.burst { now } else { left.since + self.refill * steps };
        left
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & (u128::MAX << 64)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFILL: Duration = Duration::from_secs(6);

    #[test]
    fn an_address_that_has_nothing_left_waits_and_no_other_does() {
        let (allowances, now) = (Allowances::new(10, REFILL), Instant::now());
        let (busy, other): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let last: Vec<bool> = (0..10).map(|_| allowances.take(busy, now)).collect();
        assert_eq!(last.iter().filter(|last| **last).count(), 1);
        assert_eq!(allowances.wait(busy, now), Some(REFILL));
        assert!(allowances.wait("2001:db8::2".parse().unwrap(), now).is_some(), "one network, one allowance");
        assert_eq!(allowances.wait(other, now), None);
        assert_eq!(allowances.wait(busy, now + REFILL), None, "one more");
        allowances.take(busy, now + REFILL);
        assert!(allowances.wait(busy, now + REFILL).is_some());
    }

    #[test]
    fn very_many_addresses_take_no_more_room_than_a_few_thousand() {
        let (allowances, now) = (Allowances::new(10, REFILL), Instant::now());
        for number in 0..10_000u32 {
            allowances.take(IpAddr::V4(number.into()), now);
        }
        assert!(allowances.left.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
