//! How often an address may fail to prove who calls, and a claimed key be tried.
//!
//! A signature that holds is never delayed by others' failures: somebody behind the same address, or the holder of a key
//! that is tried, goes on as before. What comes beyond the limit is told so, and counted instead of recorded one by one:
//! whoever guesses fills neither the internal stream nor memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failures in a row that are answered and recorded each.
const BURST: u32 = 20;
/// One more after each.
const EVERY: Duration = Duration::from_secs(3);
/// Addresses and keys remembered. One that is not counts with all the others that are not.
const REMEMBERED_MAX: usize = 4_096;

/// Failures of late.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<HashMap<Origin, Tried>>);

/// Whose failures are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Origin {
    /// Of IPv6 the network, /64: a host has all of it.
    Address(IpAddr),
    /// As it was claimed, whether there is such a key or not.
    Key(String),
    Others,
}

#[derive(Clone, Copy, Debug)]
struct Tried {
    /// When every failure until now is forgiven.
    clear: Instant,
}

impl Attempts {
    /// Notes a failure; whether it is still within the limit.
    pub(super) fn failed(&self, address: IpAddr, key: Option<&str>, now: Instant) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key.map(|key| Origin::Key(key.chars().take(128).collect()));
        let mut within = true;
        for origin in std::iter::once(Origin::Address(network(address))).chain(key) {
            within &= note(&mut known, origin, now);
        }
        within
    }
}

fn note(known: &mut HashMap<Origin, Tried>, origin: Origin, now: Instant) -> bool {
    if !known.contains_key(&origin) && known.len() >= REMEMBERED_MAX {
        known.retain(|_, tried| tried.clear > now);
    }
    let origin = if known.contains_key(&origin) || known.len() < REMEMBERED_MAX { origin } else { Origin::Others };
    let tried = known.entry(origin).or_insert(Tried { clear: now });
    let clear = tried.clear.max(now) + EVERY;
    // What is beyond the limit does not lengthen the wait.
    let within = clear <= now + EVERY * BURST;
    if within {
        tried.clear = clear;
    }
    within
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_has_a_burst_and_then_one_every_few_seconds() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let within = (0..BURST + 5).filter(|_| attempts.failed(address(1), None, now)).count();
        assert_eq!(within, BURST as usize);
        assert!(attempts.failed(address(2), None, now), "another address has its own");
        assert!(attempts.failed(address(1), None, now + EVERY) && !attempts.failed(address(1), None, now + EVERY));
        assert!(attempts.failed(address(1), None, now + EVERY * BURST * 2), "in time all is forgiven");
    }

    #[test]
    fn a_key_that_many_addresses_try_is_limited_as_one() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let within = (0..=255).filter(|last| attempts.failed(address(*last), Some("AKIAX"), now)).count();
        assert_eq!(within, BURST as usize);
        assert!(attempts.failed(address(7), Some("AKIAY"), now));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_what_is_remembered_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let host = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
        assert_eq!((0..100).filter(|last| attempts.failed(host(1, *last), None, now)).count(), BURST as usize);
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), address(1));
        let within = (0..10_000).filter(|net| attempts.failed(host(*net, 1), None, now)).count();
        assert!(within < REMEMBERED_MAX + BURST as usize, "those that are not remembered count as one: {within}");
        assert!(attempts.0.lock().unwrap().len() <= REMEMBERED_MAX + 1);
        assert!(attempts.failed(address(9), None, now + EVERY * BURST), "and are forgotten in time");
    }
}
