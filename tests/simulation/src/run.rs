//! One seed: faults, healing, recovery, oracle.

use std::sync::Arc;
use std::time::Duration;

use turmoil::{Builder, Sim};

use crate::enrolled::credentials;
use crate::image::{HOSTS, Image};
use crate::schedule::{self, Act, FAULTS_TIME, Place};
use crate::stages::{COLLECTOR, authority};
use crate::{collector, host, oracle};

/// The grain of simulated time.
const TICK: Duration = Duration::from_millis(10);

/// Delay of a message where nothing is wrong.
const DELAY_MIN: Duration = Duration::from_millis(1);
const DELAY_MAX: Duration = Duration::from_millis(40);

/// How often a broken link is found whole again, by message.
const REPAIR_RATE: f64 = 0.2;

/// Everything is receipted this long after the network is whole and every host runs: a dead connection is noticed in
/// 13 s, a connection attempt or an answer is given up after 10 s or 30 s, and the longest wait before the next is 30 s.
const RECOVERED_MAX: Duration = Duration::from_secs(75);

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
}

impl Broken {
    /// What is done besides what the seed says.
    fn acts(self) -> Vec<(Duration, Act)> {
        let forgets = |place| vec![(FAULTS_TIME / 3, Act::Keep(place)), (FAULTS_TIME / 3 * 2, Act::Revert(place))];
        match self {
            Self::LedgerForgets => forgets(Place::Collector),
            Self::BufferForgets => forgets(Place::Host(0)),
            Self::StaysCut => vec![(FAULTS_TIME - Duration::from_secs(5), Act::Cut(0))],
            Self::AnsweredBeforeCommit | Self::CommittedTwice => Vec::new(),
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
    let hosts: Vec<Arc<host::Site>> =
        (0..HOSTS).map(|number| host::Site::new(image, number, seed, broken, |path| credentials(&pki, path))).collect();
    drop((control, pki));
    let mut world = World::new(seed, collector, hosts);
    let mut schedule = schedule::draw(seed);
    schedule.extend(broken.into_iter().flat_map(Broken::acts));
    schedule.sort_by_key(|(at, _)| *at);
    for (at, act) in &schedule {
        world.pass_until(*at);
        world.act(*act);
    }
    world.pass_until(FAULTS_TIME);
    world.heal(broken == Some(Broken::StaysCut));
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
    hosts: Vec<Arc<host::Site>>,
}

impl World {
    fn new(seed: u64, collector: Arc<collector::Site>, hosts: Vec<Arc<host::Site>>) -> Self {
        let mut builder = Builder::new();
        builder.tick_duration(TICK).simulation_duration(Duration::from_secs(3600)).rng_seed(seed).tcp_capacity(4096);
        builder.min_message_latency(DELAY_MIN).max_message_latency(DELAY_MAX).repair_rate(REPAIR_RATE);
        let mut sim = builder.build();
        let site = Arc::clone(&collector);
        sim.host(COLLECTOR, move || Arc::clone(&site).run());
        for (number, host) in hosts.iter().enumerate() {
            let site = Arc::clone(host);
            sim.host(host::Site::name(number), move || Arc::clone(&site).run());
        }
        Self { sim, collector, hosts }
    }

    fn step(&mut self) {
        self.sim.step().expect("no software of a host ends by itself");
        self.collector.settle();
    }

    fn pass_until(&mut self, at: Duration) {
        while self.sim.elapsed() < at {
            self.step();
        }
    }

    fn act(&mut self, act: Act) {
        let name = host::Site::name;
        match act {
            Act::Cut(host) => self.sim.partition(name(host), COLLECTOR),
            Act::CutToCollector(host) => self.sim.partition_oneway(name(host), COLLECTOR),
            Act::CutFromCollector(host) => self.sim.partition_oneway(COLLECTOR, name(host)),
            Act::Repair(host) => self.sim.repair(name(host), COLLECTOR),
            Act::Hold(host) => self.sim.hold(name(host), COLLECTOR),
            Act::Release(host) => self.sim.release(name(host), COLLECTOR),
            Act::Delay(host, most) => self.sim.set_link_max_message_latency(name(host), COLLECTOR, most),
            Act::Lose(host, of_thousand) => {
                self.sim.set_link_fail_rate(name(host), COLLECTOR, of_thousand as f64 / 1000.0);
            }
            Act::Crash(place) => self.sim.crash(Self::name_of(place)),
            Act::Start(place) => {
                if !self.sim.is_host_running(Self::name_of(place)) {
                    self.sim.bounce(Self::name_of(place));
                }
            }
            Act::Repeat(host) => self.hosts[host].repeat(),
            Act::Keep(place) | Act::Revert(place) => {
                self.act(Act::Crash(place));
                match (act, place) {
                    (Act::Keep(_), Place::Collector) => self.collector.keep(),
                    (Act::Keep(_), Place::Host(host)) => self.hosts[host].keep(),
                    (_, Place::Collector) => self.collector.revert(),
                    (_, Place::Host(host)) => self.hosts[host].revert(),
                }
                self.act(Act::Start(place));
            }
            Act::SetClock(Place::Collector, seconds) => self.collector.clock.set_by(seconds),
            Act::SetClock(Place::Host(host), seconds) => self.hosts[host].clock.set_by(seconds),
        }
    }

    fn name_of(place: Place) -> String {
        match place {
            Place::Collector => COLLECTOR.to_owned(),
            Place::Host(host) => host::Site::name(host),
        }
    }

    /// The network is whole, every host runs, nobody commits any more.
    fn heal(&mut self, but_the_first: bool) {
        self.act(Act::Start(Place::Collector));
        for host in 0..HOSTS {
            self.hosts[host].fall_quiet();
            if host == 0 && but_the_first {
                continue;
            }
            self.act(Act::Lose(host, 0));
            self.act(Act::Delay(host, DELAY_MAX));
            self.act(Act::Repair(host));
            self.act(Act::Release(host));
            self.act(Act::Start(Place::Host(host)));
        }
    }

    /// How long it takes until everything committed has its receipt.
    fn recover(&mut self) -> Result<Duration, String> {
        let healed = self.sim.elapsed();
        while self.sim.elapsed() < healed + RECOVERED_MAX {
            (0..LOOK).for_each(|_| self.step());
            if self.hosts.iter().all(|host| host.is_receipted()) {
                return Ok(self.sim.elapsed() - healed);
            }
        }
        Err(self.hosts.iter().map(|host| host.trouble()).collect::<Vec<_>>().join("; "))
    }
}
