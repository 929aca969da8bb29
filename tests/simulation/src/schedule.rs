//! What happens to the network and the hosts, and when: a pure function of the seed.

use std::time::Duration;

use edgetrail_power::rng::Rng;

use crate::image::{HOSTS, RELAYS};

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
    Relay(usize),
    Host(usize),
}

/// A link: the one who dials, and the one who is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way(pub(crate) Place, pub(crate) Place);

/// One thing that is done to the simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Cut(Way),
    CutForth(Way),
    CutBack(Way),
    /// Ends all three.
    Repair(Way),
    /// Messages wait on the link, and come all at once when released.
    Hold(Way),
    Release(Way),
    /// Each message takes up to this long, by chance: messages overtake one another.
    Delay(Way, Duration),
    /// Of a thousand messages, so many break the link for a while; what it carries is lost.
    Lose(Way, usize),
    /// Everything in memory is gone.
    Crash(Place),
    Start(Place),
    SetClock(Place, i64),
    /// A host's agent stops in order: it seals a close, and goes on bringing what it has until it ends.
    Close(usize),
    /// The host sends again what it has sent, on a connection of its own.
    Repeat(usize),
    /// Never drawn: the disk is kept as it is, and later put back, as by a store that says durable and is not.
    Keep(Place),
    Revert(Place),
}

/// Each host with every collector, each relay with home.
pub(crate) fn ways() -> Vec<Way> {
    let mut ways: Vec<Way> = (0..RELAYS).map(|relay| Way(Place::Relay(relay), Place::Collector)).collect();
    for host in (0..HOSTS).map(Place::Host) {
        ways.push(Way(host, Place::Collector));
        ways.extend((0..RELAYS).map(|relay| Way(host, Place::Relay(relay))));
    }
    ways
}

/// Which collectors each host names, in order of preference: home alone in some seeds, relays and home in most.
pub(crate) fn routes(seed: u64) -> Vec<Vec<Place>> {
    let mut rng = Rng::new(seed ^ 0x5eed_0f40_07e5);
    let route = |rng: &mut Rng| {
        let (near, far) = if rng.one_in(2) { (0, 1) } else { (1, 0) };
        match rng.below(8) {
            0 | 1 => vec![Place::Collector],
            2 => vec![Place::Relay(near)],
            3 => vec![Place::Collector, Place::Relay(near)],
            4 | 5 => vec![Place::Relay(near), Place::Collector],
            _ => vec![Place::Relay(near), Place::Relay(far), Place::Collector],
        }
    };
    (0..HOSTS).map(|_| route(&mut rng)).collect()
}

/// The faults are drawn among what these routes use.
pub(crate) fn draw(seed: u64, routes: &[Vec<Place>]) -> Vec<(Duration, Act)> {
    let mut rng = Rng::new(seed);
    let uses = |place: Place| routes.iter().any(|route| route.contains(&place));
    let used = |Way(from, to): &Way| match from {
        Place::Host(host) => routes[*host].contains(to),
        relay => uses(*relay),
    };
    let (ways, relays): (Vec<Way>, Vec<Place>) =
        (ways().into_iter().filter(used).collect(), (0..RELAYS).map(Place::Relay).filter(|relay| uses(*relay)).collect());
    let mut acts = Vec::new();
    for _ in 0..=rng.below(FAULTS_MAX) {
        let at = Duration::from_millis(rng.below(FAULTS_TIME.as_millis() as usize) as u64);
        let until = at + Duration::from_millis(rng.below(LASTS_MAX_MS) as u64);
        let (host, way) = (rng.below(HOSTS), ways[rng.below(ways.len())]);
        let place = match rng.below(4) {
            0 | 1 if !relays.is_empty() => relays[rng.below(relays.len())],
            0..=2 => Place::Collector,
            _ => Place::Host(host),
        };
        match rng.below(12) {
            0 | 1 => acts.extend([(at, Act::Cut(way)), (until, Act::Repair(way))]),
            2 => acts.extend([(at, Act::CutForth(way)), (until, Act::Repair(way))]),
            3 => acts.extend([(at, Act::CutBack(way)), (until, Act::Repair(way))]),
            4 => acts.extend([(at, Act::Hold(way)), (until, Act::Release(way))]),
            5 => acts.push((at, Act::Delay(way, Duration::from_millis(5 + rng.below(1_500) as u64)))),
            6 => acts.extend([(at, Act::Lose(way, 1 + rng.below(50))), (until, Act::Lose(way, 0))]),
            7 | 8 => acts.extend([(at, Act::Crash(place)), (until, Act::Start(place))]),
            9 | 10 => acts.push((at, Act::Repeat(host))),
            _ => {
                let seconds = i64::try_from(1 + rng.below(100_000)).unwrap_or(1);
                acts.push((at, Act::SetClock(place, if rng.one_in(2) { -seconds } else { seconds })));
            }
        }
    }
    // Drawn apart, so that a seed's other faults stay what they were.
    let mut rng = Rng::new(seed ^ 0xc105_e5a9_d094_e50a);
    if rng.one_in(3) {
        acts.extend(restarts(&mut rng));
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

/// A host that is restarted in order while its clock steps back, further each time: each stream is opened before the one that
/// it follows.
fn restarts(rng: &mut Rng) -> Vec<(Duration, Act)> {
    let (host, mut acts) = (rng.below(HOSTS), Vec::new());
    let mut at = Duration::from_millis(rng.below(FAULTS_TIME.as_millis() as usize / 2) as u64);
    for _ in 0..=rng.below(3) {
        let back = -i64::try_from(1 + rng.below(100_000)).unwrap_or(1);
        // Between the seal of the close and the end its batches may be on the way, or not.
        let ends = at + Duration::from_millis(10 + rng.below(3_000) as u64);
        let starts = ends + Duration::from_millis(rng.below(2_000) as u64);
        acts.extend([
            (at, Act::Close(host)),
            (ends, Act::Crash(Place::Host(host))),
            (ends, Act::SetClock(Place::Host(host), back)),
            (starts, Act::Start(Place::Host(host))),
        ]);
        at = starts + Duration::from_millis(rng.below(8_000) as u64);
    }
    acts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_schedule_and_seeds_differ() {
        let drawn = |seed| draw(seed, &routes(seed));
        assert_eq!(drawn(7), drawn(7));
        assert_ne!(drawn(7), drawn(8));
        let acts: Vec<String> = (0..300).flat_map(drawn).map(|(_, act)| format!("{act:?}")).collect();
        for kind in ["Cut(", "CutForth", "CutBack", "Hold", "Delay", "Lose", "SetClock", "Repeat", "Close"] {
            assert!(acts.iter().any(|act| act.starts_with(kind)), "{kind}");
        }
        for place in ["Collector", "Relay(0)", "Relay(1)", "Host(0)", "Host(1)"] {
            assert!(acts.contains(&format!("Crash({place})")), "{place}");
        }
        for way in ways() {
            assert!(acts.contains(&format!("{:?}", Act::Cut(way))), "{way:?}");
        }
    }
}
