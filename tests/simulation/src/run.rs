//! One seed: faults, healing, recovery, oracle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use turmoil::{Builder, Sim};

use crate::enrolled::credentials;
use crate::image::{HOSTS, Image, RELAYS};
use crate::schedule::{self, Act, FAULTS_TIME, Place, Way};
use crate::stages::{COLLECTOR, authority};
use crate::{collector, host, oracle, relay};

/// The grain of simulated time.
const TICK: Duration = Duration::from_millis(10);

/// Delay of a message where nothing is wrong.
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_millis(40);

/// How often a broken link is found whole again, by message.
const REPAIR_RATE: f64 = 0.2;

/// Everything is receipted this long after the network is whole and every host runs: a dead connection is noticed in
/// 13 s, a connection attempt or an answer is given up after 10 s or 30 s, and the longest wait before the next is 30 s.
/// Through a relay all of that comes twice.
const RECOVERED_MAX: Duration = Duration::from_secs(150);

/// How often it is looked whether that is so.
const LOOK: u32 = 25;

/// A promise that is broken on purpose: the oracle must say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The ledger gives receipts for what a crash takes.
    LedgerForgets,
    /// The buffer answers for what a crash takes.
    BufferForgets,
    /// A caller is answered, and its records are nowhere.
    AnsweredBeforeCommit,
    CommittedTwice,
    /// A host does not find its collector again.
    StaysCut,
    /// A relay gives receipts for what a crash takes.
    RelayForgets,
    /// A relay does not find home again.
    RelayStaysCut,
}

impl Broken {
    /// What is done besides what the seed says.
    fn acts(self) -> Vec<(Duration, Act)> {
        let forgets = |place| vec![(FAULTS_TIME / 3, Act::Keep(place)), (FAULTS_TIME / 3 * 2, Act::Revert(place))];
        match self {
            Self::LedgerForgets => forgets(Place::Collector),
            Self::BufferForgets => forgets(Place::Host(0)),
            // What it forgets is nowhere else: home is out of reach meanwhile.
            Self::RelayForgets => {
                let way = Way(Place::Relay(0), Place::Collector);
                let mut acts = vec![(FAULTS_TIME / 3, Act::Cut(way))];
                acts.extend(forgets(Place::Relay(0)));
                acts
            }
            Self::StaysCut => vec![(LATE, Act::Cut(Way(Place::Host(0), Place::Collector)))],
            Self::RelayStaysCut => vec![(LATE, Act::Cut(Way(Place::Relay(0), Place::Collector)))],
            Self::AnsweredBeforeCommit | Self::CommittedTwice => Vec::new(),
        }
    }
}

/// The link that stays cut is cut this late: no repair that was drawn may come after.
const LATE: Duration = FAULTS_TIME.saturating_sub(Duration::from_secs(5));

impl Broken {
    /// Which collectors each host names where a promise is broken: those that break it.
    fn routes(self) -> Vec<Vec<Place>> {
        let route = match self {
            Self::RelayForgets | Self::RelayStaysCut => vec![Place::Relay(0)],
            _ => vec![Place::Collector],
        };
        vec![route; HOSTS]
    }

    /// The link that is not healed.
    fn stays_cut(self) -> Option<Way> {
        match self {
            Self::StaysCut => Some(Way(Place::Host(0), Place::Collector)),
            Self::RelayStaysCut => Some(Way(Place::Relay(0), Place::Collector)),
            _ => None,
        }
    }
}

/// What a seed came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ran {
    pub acts: usize,
    pub records: usize,
    /// Starts of all hosts' agents.
    pub starts: u64,
    /// Messages that came again.
    pub repeated: usize,
    /// Simulated, from healing to the last receipt.
    pub recovered: Duration,
}

/// Runs one seed; panics where a promise does not hold.
pub fn run(seed: u64) -> Ran {
    run_seed(seed, None)
}

/// Runs one seed with a promise broken; panics if the oracle is worth anything.
pub fn run_broken(seed: u64, broken: Broken) -> Ran {
    run_seed(seed, Some(broken))
}

fn run_seed(seed: u64, broken: Option<Broken>) -> Ran {
    let image = Image::get();
    let collector = collector::Site::new(image);
    let (control, pki) = authority(&collector.path());
    let routes = broken.map_or_else(|| schedule::routes(seed), Broken::routes);
    let named = |route: &Vec<Place>| route.iter().copied().map(name_of).collect();
    let host = |(number, route)| host::Site::new(image, number, seed, broken, named(route), |path| credentials(&pki, path));
    let hosts: Vec<Arc<host::Site>> = routes.iter().enumerate().map(host).collect();
    drop((control, pki));
    let relays = (0..RELAYS).filter(|relay| routes.iter().any(|route| route.contains(&Place::Relay(*relay))));
    let relays = relays.map(|number| (number, relay::Site::new(image, number))).collect();
    let mut world = World::new(seed, collector, relays, hosts);
    let mut schedule = schedule::draw(seed, &routes);
    schedule.extend(broken.into_iter().flat_map(Broken::acts));
    schedule.sort_by_key(|(at, _)| *at);
    for (at, act) in &schedule {
        world.pass_until(*at);
        world.act(*act);
    }
    world.pass_until(FAULTS_TIME);
    world.heal(broken.and_then(Broken::stays_cut));
    let recovered =
        world.recover().unwrap_or_else(|trouble| panic!("not recovered after {RECOVERED_MAX:?}: {trouble}; {schedule:?}"));
    oracle::check(&world.collector, &world.hosts);
    let records = world.hosts.iter().map(|host| host.answered().len()).sum();
    let starts = world.hosts.iter().map(|host| host.starts()).sum();
    let repeated = world.hosts.iter().map(|host| host.repeated()).sum();
    Ran { acts: schedule.len(), records, starts, repeated, recovered }
}

struct World {
    sim: Sim<'static>,
    collector: Arc<collector::Site>,
    /// Those that a host names.
    relays: BTreeMap<usize, Arc<relay::Site>>,
    hosts: Vec<Arc<host::Site>>,
}

impl World {
    fn new(
        seed: u64,
        collector: Arc<collector::Site>,
        relays: BTreeMap<usize, Arc<relay::Site>>,
        hosts: Vec<Arc<host::Site>>,
    ) -> Self {
        let mut builder = Builder::new();
        builder.tick_duration(TICK).simulation_duration(Duration::from_secs(3600)).rng_seed(seed).tcp_capacity(4096);
        builder.min_message_latency(DELAY_MIN).max_message_latency(DELAY_MAX).repair_rate(REPAIR_RATE);
        let mut sim = builder.build();
        let site = Arc::clone(&collector);
        sim.host(COLLECTOR, move || Arc::clone(&site).run());
        for (number, relay) in &relays {
            let site = Arc::clone(relay);
            sim.host(relay::name(*number), move || Arc::clone(&site).run());
        }
        for (number, host) in hosts.iter().enumerate() {
            let site = Arc::clone(host);
            sim.host(host::Site::name(number), move || Arc::clone(&site).run());
        }
        Self { sim, collector, relays, hosts }
    }

    fn step(&mut self) {
        self.sim.step().expect("no software of a host ends by itself");
        self.collector.settle();
        self.relays.values().for_each(|relay| relay.settle());
    }

    fn pass_until(&mut self, at: Duration) {
        while self.sim.elapsed() < at {
            self.step();
        }
    }

    fn act(&mut self, act: Act) {
        let ends = |Way(from, to): Way| (name_of(from), name_of(to));
        match act {
            Act::Cut(way) => {
                let (from, to) = ends(way);
                self.sim.partition(from, to);
            }
            Act::CutForth(way) => {
                let (from, to) = ends(way);
                self.sim.partition_oneway(from, to);
            }
            Act::CutBack(way) => {
                let (from, to) = ends(way);
                self.sim.partition_oneway(to, from);
            }
            Act::Repair(way) => {
                let (from, to) = ends(way);
                self.sim.repair(from, to);
            }
            Act::Hold(way) => {
                let (from, to) = ends(way);
                self.sim.hold(from, to);
            }
            Act::Release(way) => {
                let (from, to) = ends(way);
                self.sim.release(from, to);
            }
            Act::Delay(way, most) => {
                let (from, to) = ends(way);
                self.sim.set_link_max_message_latency(from, to, most);
            }
            Act::Lose(way, of_thousand) => {
                let (from, to) = ends(way);
                self.sim.set_link_fail_rate(from, to, of_thousand as f64 / 1000.0);
            }
            Act::Crash(place) => self.sim.crash(name_of(place)),
            Act::Start(place) => {
                if !self.sim.is_host_running(name_of(place)) {
                    self.sim.bounce(name_of(place));
                }
            }
            Act::Repeat(host) => self.hosts[host].repeat(),
            Act::Close(host) => self.hosts[host].close(),
            Act::Keep(place) | Act::Revert(place) => {
                self.act(Act::Crash(place));
                match (act, place) {
                    (Act::Keep(_), Place::Collector) => self.collector.keep(),
                    (Act::Keep(_), Place::Relay(relay)) => self.relays[&relay].keep(),
                    (Act::Keep(_), Place::Host(host)) => self.hosts[host].keep(),
                    (_, Place::Collector) => self.collector.revert(),
                    (_, Place::Relay(relay)) => self.relays[&relay].revert(),
                    (_, Place::Host(host)) => self.hosts[host].revert(),
                }
                self.act(Act::Start(place));
            }
            Act::SetClock(Place::Collector, seconds) => self.collector.clock.set_by(seconds),
            Act::SetClock(Place::Relay(relay), seconds) => self.relays[&relay].clock.set_by(seconds),
            Act::SetClock(Place::Host(host), seconds) => self.hosts[host].clock.set_by(seconds),
        }
    }

    /// The network is whole but for one link, every host runs, nobody commits any more.
    fn heal(&mut self, but: Option<Way>) {
        self.act(Act::Start(Place::Collector));
        let relays: Vec<usize> = self.relays.keys().copied().collect();
        relays.iter().for_each(|relay| self.act(Act::Start(Place::Relay(*relay))));
        for host in 0..HOSTS {
            self.hosts[host].fall_quiet();
            self.act(Act::Start(Place::Host(host)));
        }
        let runs = |place: Place| !matches!(place, Place::Relay(relay) if !relays.contains(&relay));
        for way in schedule::ways().into_iter().filter(|way| runs(way.0) && runs(way.1) && Some(*way) != but) {
            self.act(Act::Lose(way, 0));
            self.act(Act::Delay(way, DELAY_MAX));
            self.act(Act::Repair(way));
            self.act(Act::Release(way));
        }
    }

    /// How long it takes until everything committed has its receipt, and is home.
    fn recover(&mut self) -> Result<Duration, String> {
        let healed = self.sim.elapsed();
        while self.sim.elapsed() < healed + RECOVERED_MAX {
            (0..LOOK).for_each(|_| self.step());
            if self.hosts.iter().all(|host| host.is_receipted()) && self.owing().is_none() {
                return Ok(self.sim.elapsed() - healed);
            }
        }
        let hosts = self.hosts.iter().map(|host| host.trouble());
        Err(hosts.chain(self.owing()).collect::<Vec<_>>().join("; "))
    }

    fn owing(&self) -> Option<String> {
        let Some(home) = self.collector.ledger() else { return Some("home does not run".to_owned()) };
        self.relays.values().find_map(|relay| relay.owing(&home))
    }
}

fn name_of(place: Place) -> String {
    match place {
        Place::Collector => COLLECTOR.to_owned(),
        Place::Relay(relay) => relay::name(relay),
        Place::Host(host) => host::Site::name(host),
    }
}
