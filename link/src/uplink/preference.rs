//! Which collector the uplink talks to: the first of a list that can be reached.
//!
//! One that fails a few times in a row is passed over for the next; one that is passed over is tried again ever more
//! rarely, and at once where nothing better is left. While a session runs with a later one, the earlier ones are
//! probed, and the uplink returns to one that has been reachable for a while. One that can be reached and then does not
//! work is returned to ever more slowly, so that a broken collector is not swung to and from.
//!
//! Nothing here can lose or double anything: each collector answers from its own head, and the store knows every receipt.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::backoff::{Backoff, jittered};
use super::{Endpoint, PassedOver};

/// Failures in a row after which the next collector is tried: a restart of the preferred one takes less.
const FAILURES_MAX: u32 = 3;

/// An attempt that failed only after this long (nobody answers at all) is not made thrice before the next one is tried.
const SLOW: Duration = Duration::from_secs(3);

/// Probes in one `return_after`, each of which must succeed.
const PROBES: u32 = 3;

/// Shortest time between two probes: each is a TLS handshake.
const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// A collector that failed after it was returned to is left alone for up to 2⁵ times as long.
const DOUBLINGS_MAX: u32 = 5;

/// The collectors in order of preference, and how each has done.
#[derive(Debug)]
pub(super) struct Preference {
    candidates: Vec<Candidate>,
    return_after: Duration,
}

#[derive(Debug)]
struct Candidate {
    endpoint: Endpoint,
    backoff: Backoff,
    /// In a row.
    failures: u32,
    not_before: Instant,
    /// Why it is passed over, and since when.
    trouble: Option<(String, SystemTime)>,
    probes: u32,
    /// Returned to and failed, in a row.
    vain_returns: u32,
    returned_to: bool,
}

impl Preference {
    pub(super) fn new(endpoints: Vec<Endpoint>, return_after: Duration) -> Self {
        let now = Instant::now();
        let candidate = |endpoint| Candidate {
            endpoint,
            backoff: Backoff::default(),
            failures: 0,
            not_before: now,
            trouble: None,
            probes: 0,
            vain_returns: 0,
            returned_to: false,
        };
        Self { candidates: endpoints.into_iter().map(candidate).collect(), return_after }
    }

    /// Whom to talk to next, and from when. `None` without collectors.
    pub(super) fn next(&self, now: Instant) -> Option<(usize, Instant)> {
        let ready = self.candidates.iter().position(|c| c.failures < FAILURES_MAX || c.not_before <= now);
        let chosen = ready.or_else(|| {
            let soonest = self.candidates.iter().enumerate().min_by_key(|(_, candidate)| candidate.not_before);
            soonest.map(|(index, _)| index)
        })?;
        Some((chosen, self.candidates.get(chosen)?.not_before))
    }

    pub(super) fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.candidates.get(index).map(|candidate| &candidate.endpoint)
    }

    /// A session did something: whatever was wrong is over.
    pub(super) fn worked(&mut self, index: usize) {
        let Some(candidate) = self.candidates.get_mut(index) else { return };
        candidate.backoff.reset();
        (candidate.failures, candidate.vain_returns, candidate.returned_to) = (0, 0, false);
        candidate.trouble = None;
    }

    /// A session ended without a fault: the next one follows soon.
    pub(super) fn ended(&mut self, index: usize) {
        if let Some(candidate) = self.candidates.get_mut(index) {
            candidate.not_before = Instant::now() + candidate.backoff.next_wait();
        }
    }

    pub(super) fn failed(&mut self, index: usize, error: &str, took: Duration) {
        let Some(candidate) = self.candidates.get_mut(index) else { return };
        let since = candidate.trouble.take().map_or_else(SystemTime::now, |(_, since)| since);
        candidate.trouble = Some((error.to_owned(), since));
        let failures = if took >= SLOW { FAILURES_MAX } else { candidate.failures.saturating_add(1) };
        candidate.failures = failures;
        candidate.not_before = Instant::now() + candidate.backoff.next_wait();
        candidate.probes = 0;
        if failures >= FAILURES_MAX && std::mem::take(&mut candidate.returned_to) {
            candidate.vain_returns = (candidate.vain_returns + 1).min(DOUBLINGS_MAX);
        }
    }

    /// Nobody is to be asked soon: another collector would say the same.
    pub(super) fn rest(&mut self, index: usize) {
        let Some(candidate) = self.candidates.get_mut(index) else { return };
        candidate.backoff.rest();
        candidate.not_before = Instant::now() + candidate.backoff.next_wait();
        // Not a failure: the preference stays where it is.
        candidate.failures = 0;
    }

    /// New credentials may be just what was missing.
    pub(super) fn begin_anew(&mut self) {
        let now = Instant::now();
        for candidate in &mut self.candidates {
            candidate.backoff.reset();
            (candidate.failures, candidate.not_before) = (0, now);
        }
    }

    /// How long until the collectors before `index` are probed again; `None` where there is none.
    pub(super) fn probe_wait(&self, index: usize) -> Option<Duration> {
        let before = self.candidates.get(..index).filter(|before| !before.is_empty())?;
        let doublings = before.iter().map(|candidate| candidate.vain_returns).min().unwrap_or(0);
        let interval = (self.return_after / PROBES).max(PROBE_INTERVAL_MIN).saturating_mul(1 << doublings.min(DOUBLINGS_MAX));
        Some(jittered(interval / 2))
    }

    /// What a probe of a collector found; true once it has been reachable for long enough to return to it.
    pub(super) fn probed(&mut self, index: usize, found: Result<(), String>) -> bool {
        let Some(candidate) = self.candidates.get_mut(index) else { return false };
        match found {
            Err(error) => {
                candidate.probes = 0;
                let since = candidate.trouble.take().map_or_else(SystemTime::now, |(_, since)| since);
                candidate.trouble = Some((error, since));
                false
            }
            Ok(()) => {
                candidate.probes += 1;
                if candidate.probes < PROBES {
                    return false;
                }
                candidate.backoff.reset();
                (candidate.probes, candidate.failures, candidate.not_before) = (0, 0, Instant::now());
                candidate.returned_to = true;
                true
            }
        }
    }

    /// The collectors that are preferred to `index`, and why none of them is used.
    pub(super) fn passed_over(&self, index: usize) -> Vec<PassedOver> {
        let before = self.candidates.iter().take(index);
        let passed = before.filter_map(|candidate| {
            let (error, since) = candidate.trouble.clone()?;
            Some(PassedOver { endpoint: candidate.endpoint.clone(), error, since })
        });
        passed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preference() -> Preference {
        let endpoints = ["a:1", "b:1", "c:1"].iter().map(|text| text.parse().unwrap()).collect();
        Preference::new(endpoints, Duration::from_secs(30))
    }

    fn chosen(preference: &Preference) -> usize {
        preference.next(Instant::now()).unwrap().0
    }

    #[test]
    fn the_next_one_is_used_after_a_few_failures_and_the_first_again_when_all_have_failed() {
        let mut preference = preference();
        for _ in 0..FAILURES_MAX {
            assert_eq!(chosen(&preference), 0);
            preference.failed(0, "refused", Duration::ZERO);
        }
        assert_eq!(chosen(&preference), 1);
        preference.failed(1, "nobody answers", SLOW);
        assert_eq!(chosen(&preference), 2, "what takes long is not tried thrice");
        preference.failed(2, "refused", SLOW);
        let (_, from) = preference.next(Instant::now()).unwrap();
        assert!(from > Instant::now(), "all have failed: wait");
        assert_eq!(preference.passed_over(2).len(), 2);
        assert_eq!(preference.next(Instant::now() + Duration::from_secs(31)).unwrap().0, 0);
    }

    #[test]
    fn the_preferred_one_is_returned_to_when_it_has_been_reachable_for_a_while() {
        let mut preference = preference();
        preference.failed(0, "refused", SLOW);
        assert_eq!(preference.probe_wait(0), None, "nothing is preferred to the first");
        assert!(preference.probe_wait(1).unwrap() <= Duration::from_secs(10));
        assert!(!preference.probed(0, Ok(())));
        assert!(!preference.probed(0, Err("gone again".to_owned())));
        assert_eq!(preference.passed_over(1)[0].error, "gone again");
        assert!(!preference.probed(0, Ok(())));
        assert!(!preference.probed(0, Ok(())));
        assert!(preference.probed(0, Ok(())));
        assert_eq!(chosen(&preference), 0);
        preference.worked(0);
        assert!(preference.passed_over(1).is_empty());
    }

    #[test]
    fn one_that_is_returned_to_in_vain_is_returned_to_more_slowly() {
        let mut preference = preference();
        preference.failed(0, "refused", SLOW);
        for _ in 0..3 {
            while !preference.probed(0, Ok(())) {}
            preference.failed(0, "it answers and does not work", SLOW);
        }
        assert!(preference.probe_wait(1).unwrap() >= Duration::from_secs(40), "8 times 10 s, jittered");
    }
}
