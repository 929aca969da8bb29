//! The lanes of a trail, one chain of digests for each account and region, judged together.
//!
//! A stop is told once, in the files of the lane whose account and region the call was made in, but ends all lanes at the
//! same time. So what hangs on a stop, a chain that begins anew or one that ends early, is judged when all were read.

use std::collections::{BTreeMap, BTreeSet};

use crate::digests::{ChainId, Loaded, missing_time};
use crate::report::{Check, Report};
use crate::store::Place;

/// What waits for every lane to be read.
#[derive(Debug, Default)]
pub struct Lanes {
    /// Ends of digests in whose files their trail was stopped.
    stops: BTreeSet<(Trail, u64)>,
    restarts: Vec<Restart>,
    newest: Vec<Newest>,
}

/// A trail's name and home region.
type Trail = (String, String);

/// A chain that begins anew behind another.
#[derive(Debug)]
struct Restart {
    trail: Trail,
    /// The end of the digest before.
    end: u64,
    before: Place,
    first: Place,
}

/// The last digest of a lane.
#[derive(Debug)]
struct Newest {
    chain: ChainId,
    start: u64,
    end: u64,
}

fn trail(chain: &ChainId) -> Trail {
    (chain.trail.clone(), chain.home_region.clone())
}

impl Lanes {
    pub fn stop(&mut self, chain: &ChainId, end: u64) {
        self.stops.insert((trail(chain), end));
    }

    pub fn restart(&mut self, chain: &ChainId, before: &Loaded, first: &Loaded) {
        let (end, before, first) = (before.end, before.place.clone(), first.place.clone());
        self.restarts.push(Restart { trail: trail(chain), end, before, first });
    }

    pub fn newest(&mut self, chain: &ChainId, newest: &Loaded) {
        self.newest.push(Newest { chain: chain.clone(), start: newest.start, end: newest.end });
    }

    /// Judges what waited. `due`: when the newest digest of a lane with windows of this length must have ended at the
    /// earliest; a trail whose tail was cut off looks whole, and only the time that the auditor expects tells.
    /// Gives up to when each account and region is covered; behind a stop nothing is pending.
    pub fn judge(self, due: impl Fn(u64) -> Option<u64>, report: &mut Report) -> BTreeMap<(String, String), u64> {
        for Restart { trail, end, before, first } in self.restarts {
            if !self.stops.contains(&(trail, end)) {
                report.find(Check::ChainRestart, first, format_args!("the digest before it is {before}"));
            }
        }
        let mut covered = BTreeMap::<_, u64>::new();
        for Newest { chain, start, end } in self.newest {
            let stopped = self.stops.contains(&(trail(&chain), end));
            if let Some(due) = due(end.saturating_sub(start)).filter(|&due| end < due && !stopped) {
                report.find(Check::NewestStale, &chain, missing_time(end, due));
            }
            let until = covered.entry((chain.account, chain.region)).or_default();
            *until = if stopped { u64::MAX } else { end.max(*until) };
        }
        covered
    }
}
