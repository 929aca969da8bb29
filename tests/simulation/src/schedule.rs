//! What happens to the network and the hosts, and when: a pure function of the seed.

use std::time::Duration;

use edgetrail_power::rng::Rng;

use crate::image::HOSTS;

/// Faults begin within this time, and end some time after it at the latest.
pub(crate) const FAULTS_TIME: Duration = Duration::from_secs(60);

/// Longest time that one fault lasts: longer than the connection's ping and the longest wait of the uplink.
const LASTS_MAX_MS: usize = 25_000;

/// Most faults of one seed.
const FAULTS_MAX: usize = 14;

/// Who a fault befalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Collector,
    Host(usize),
}

/// One thing that is done to the simulation. Links are those between a host, by its number, and the collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Cut(usize),
    CutToCollector(usize),
    CutFromCollector(usize),
    /// Ends all three.
    Repair(usize),
    /// Messages wait on the link, and come all at once when released.
    Hold(usize),
    Release(usize),
    /// Each message takes up to this long, by chance: messages overtake one another.
    Delay(usize, Duration),
    /// Of a thousand messages, so many break the link for a while; what it carries is lost.
    Lose(usize, usize),
    /// Everything in memory is gone.
    Crash(Place),
    Start(Place),
    SetClock(Place, i64),
    /// The host sends again what it has sent, on a connection of its own.
    Repeat(usize),
    /// Never drawn: the disk is kept as it is, and later put back, as by a store that says durable and is not.
    Keep(Place),
    Revert(Place),
}

pub(crate) fn draw(seed: u64) -> Vec<(Duration, Act)> {
    let mut rng = Rng::new(seed);
    let mut acts = Vec::new();
    for _ in 0..=rng.below(FAULTS_MAX) {
        let at = Duration::from_millis(rng.below(FAULTS_TIME.as_millis() as usize) as u64);
        let until = at + Duration::from_millis(rng.below(LASTS_MAX_MS) as u64);
        let host = rng.below(HOSTS);
        let place = if rng.one_in(2) { Place::Collector } else { Place::Host(host) };
        match rng.below(12) {
            0 | 1 => acts.extend([(at, Act::Cut(host)), (until, Act::Repair(host))]),
            2 => acts.extend([(at, Act::CutToCollector(host)), (until, Act::Repair(host))]),
            3 => acts.extend([(at, Act::CutFromCollector(host)), (until, Act::Repair(host))]),
            4 => acts.extend([(at, Act::Hold(host)), (until, Act::Release(host))]),
            5 => acts.push((at, Act::Delay(host, Duration::from_millis(5 + rng.below(1_500) as u64)))),
            6 => acts.extend([(at, Act::Lose(host, 1 + rng.below(50))), (until, Act::Lose(host, 0))]),
            7 | 8 => acts.extend([(at, Act::Crash(place)), (until, Act::Start(place))]),
            9 | 10 => acts.push((at, Act::Repeat(host))),
            _ => {
                let seconds = i64::try_from(1 + rng.below(100_000)).unwrap_or(1);
                acts.push((at, Act::SetClock(place, if rng.one_in(2) { -seconds } else { seconds })));
            }
        }
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_schedule_and_seeds_differ() {
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let acts: Vec<Act> = (0..200).flat_map(draw).map(|(_, act)| act).collect();
        for kind in ["Cut(", "CutToC", "CutFromC", "Hold", "Delay", "Lose", "Crash(Coll", "Crash(Host", "SetClock", "Repeat"] {
            assert!(acts.iter().any(|act| format!("{act:?}").starts_with(kind)), "{kind}");
        }
    }
}
