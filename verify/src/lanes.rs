//! The lanes of a trail, one chain of digests for each account and region, judged together.
//!
//! A stop is told once, in the files of the lane whose account and region the call was made in, but ends all lanes at the
//! same time. So what hangs on a stop, a chain that begins anew or one that ends early, is judged when all were read.

use std::collections::{BTreeMap, BTreeSet};

use edgetrail_proto::identity::StreamId;

use crate::digests::{ChainId, Loaded, missing_time};
use crate::logs::COLLECTOR_LOST;
use crate::report::{Check, Report};
use crate::store::Place;
use crate::stream::Hole;

/// What waits for every lane to be read.
#[derive(Debug, Default)]
pub struct Lanes {
    /// Ends of digests in whose files their trail was stopped.
    stops: BTreeSet<(Trail, u64)>,
    restarts: Vec<Restart>,
    newest: Vec<Newest>,
    /// Batches that are missing inside streams; one for each lane that shows the stream.
    holes: Vec<(StreamId, Hole)>,
    /// Ranges of batches that a collector reported lost, with what it said.
    reported: Vec<(StreamId, u64, u64, String)>,
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

    pub(crate) fn holes(&mut self, holes: Vec<(StreamId, Hole)>) {
        self.holes.extend(holes);
    }

    pub fn reported_lost(&mut self, stream: StreamId, from_batch: u64, to_batch: u64, detail: String) {
        self.reported.push((stream, from_batch, to_batch, detail));
    }

    /// Batches that are missing inside a stream were reported lost by a collector, or nobody knows of them.
    fn judge_holes(&mut self, report: &mut Report) {
        let mut named = BTreeSet::new();
        for (stream, hole) in std::mem::take(&mut self.holes) {
            let (from, to) = (hole.missing.from_batch, hole.missing.to_batch);
            if !named.insert((stream, from, to)) {
                continue;
            }
            let detail = format!("{} of stream {stream}", hole.missing);
            let account = report.accounts.0.get_mut(&stream);
            let said = self.reported.iter().find(|(of, first, last, _)| *of == stream && *first <= from && to <= *last);
            match said {
                Some((.., said)) => {
                    let count = Some(hole.missing.records);
                    account.into_iter().for_each(|it| it.gap(COLLECTOR_LOST, count, hole.since, hole.until));
                    report.find_in(stream, Check::RangeLost, hole.place, format_args!("{detail}; {said}"));
                }
                None => {
                    account.into_iter().for_each(|it| it.hour(hole.until).holes.push(detail.clone()));
                    report.find_in(stream, Check::RangeUnreported, hole.place, detail);
                }
            }
        }
    }

    /// Judges what waited. `due`: when the newest digest of a lane with windows of this length must have ended at the
    /// earliest; a trail whose tail was cut off looks whole, and only the time that the auditor expects tells.
    /// Gives up to when each account and region is covered; behind a stop nothing is pending.
    pub fn judge(mut self, due: impl Fn(u64) -> Option<u64>, report: &mut Report) -> BTreeMap<(String, String), u64> {
        self.judge_holes(report);
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
