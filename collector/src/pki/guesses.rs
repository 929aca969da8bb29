//! Guessing tokens is slow: an address that gave wrong ones is made to wait before the next is looked at.
//!
//! A token has 160 random bits, so no guess succeeds; what is bounded here is the work, the log and the records that
//! guessing causes. What is refused for its rate costs no hash. Right tokens are never counted, so that a fleet behind
//! one address joins as fast as it likes.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use edgetrail_link::allowance::Allowances;

/// Wrong tokens that an address may give at once: an operator's typing errors.
const BURST: u32 = 10;

/// After those, one more each time this has passed.
const REFILL: Duration = Duration::from_secs(6);

/// Who gave wrong tokens lately.
#[derive(Debug)]
pub(super) struct Guesses(Allowances);

impl Default for Guesses {
    fn default() -> Self {
        Self(Allowances::new(BURST, REFILL))
    }
}

impl Guesses {
    /// How long the address has to wait before a token of its is looked at.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        self.0.wait(address, now)
    }

    /// Notes a wrong token. Gives whether it is the one that used the address's allowance up.
    pub(super) fn wrong(&self, address: IpAddr, now: Instant) -> bool {
        self.0.take(address, now)
    }
}
