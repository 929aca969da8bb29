//! A deployment under attack, and somebody beside it who must not notice.
//!
//! The witness is an agent of its own that posts one event after another, each answered only with the collector's
//! receipt: its latencies before and during an attack are of one run and one machine. Beside it the memory of the
//! processes is sampled, and afterwards the deployment's directories are compared with what was there before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use serde_json::json;

/// What an attack may make a process grow by. Source: the promise of the abuse tests.
const GROWTH_MAX_KIB: u64 = 32 * 1024;

/// How the witness's median during an attack may relate to its median alone, before and after in the same run. Measured on
/// two cores, that attacker, other tests and a debug build share: between 0.7 and 1.8. Less than this can't be promised
/// there: alone, too, one run's median is up to three times another's. That nothing is felt at all is for a machine of the
/// attacker's own.
const MEDIAN_RATIO_MAX: u32 = 4;

/// A median below this is as good as any.
const MEDIAN_FLOOR: Duration = Duration::from_millis(25);

/// The same for the p99, which over the few events of a short attack is the slowest. A starved witness waits for seconds.
const P99_RATIO_MAX: u32 = 10;

/// Below this a p99 is noise.
const P99_FLOOR: Duration = Duration::from_millis(50);

/// Where the attacker's own thousand threads take this machine's cores, nothing can be said of their share but that the
/// witness is answered: its slowest answer.
const STARVED_MAX: Duration = Duration::from_secs(10);

/// The witness alone, before and after.
const QUIET: Duration = Duration::from_millis(1500);

pub(crate) struct Abused {
    pub(crate) deployment: Deployment,
    there: BTreeSet<PathBuf>,
}

impl Abused {
    pub(crate) fn start() -> Self {
        Self::with_collector_settings("")
    }

    pub(crate) fn with_collector_settings(settings: &str) -> Self {
        let deployment = Deployment::with_both_settings("[sources.api]\nanswer_after = \"receipt\"\n", settings);
        let there = top_level(deployment.dir());
        Self { deployment, there }
    }

    /// Runs the attack, once or for the time that `EDGETRAIL_SOAK` gives; then judges memory, latency and directories.
    pub(crate) fn withstands(&self, attack: impl FnMut()) {
        self.withstands_of(&[self.deployment.collector_id()], attack);
    }

    /// The same for the memory of these processes.
    pub(crate) fn withstands_of(&self, processes: &[u32], attack: impl FnMut()) {
        let latencies = self.judged(processes, attack);
        let (quiet, during) = (median(&latencies.alone).max(MEDIAN_FLOOR), median(&latencies.during));
        assert!(during <= quiet * MEDIAN_RATIO_MAX, "median {quiet:?} alone, {during:?} during");
        let (before, during) = (p99(&latencies.alone).max(P99_FLOOR), p99(&latencies.during));
        assert!(during <= before * P99_RATIO_MAX, "p99 {before:?} alone, {during:?} during");
    }

    /// The same where the attacker itself takes all that this machine has.
    pub(crate) fn withstands_starved(&self, attack: impl FnMut()) {
        let latencies = self.judged(&[self.deployment.collector_id()], attack);
        let slowest = latencies.during.iter().max().copied().unwrap_or_default();
        assert!(slowest <= STARVED_MAX, "the witness waited for {slowest:?}");
    }

    fn judged(&self, processes: &[u32], mut attack: impl FnMut()) -> Latencies {
        let witness = Witness::start(self.deployment.socket());
        std::thread::sleep(QUIET);
        let calm = witness.latencies();
        let memory: Vec<Memory> = processes.iter().map(|process| Memory::watch(*process)).collect();
        let (began, soak) = (Instant::now(), soak());
        loop {
            attack();
            if began.elapsed() >= soak {
                break;
            }
        }
        let during = witness.latencies_since(calm.len());
        std::thread::sleep(QUIET);
        let growth: Vec<u64> = memory.into_iter().map(Memory::growth_kib).collect();
        let all = witness.stop();
        let alone = [&calm[..], &all[calm.len() + during.len()..]].concat();
        eprintln!(
            "attacked for {:?}: witness median {:?} alone, {:?} during; p99 {:?} alone, {:?} during ({} events), memory \
             +{growth:?} KiB",
            began.elapsed(),
            median(&alone),
            median(&during),
            p99(&alone),
            p99(&during),
            during.len()
        );
        assert!(all.len() > calm.len() + during.len(), "the witness works on");
        assert!(growth.iter().all(|growth| *growth <= GROWTH_MAX_KIB), "memory grew by {growth:?} KiB");
        let now = top_level(self.deployment.dir());
        assert_eq!(now, self.there, "something was written outside its directory");
        Latencies { alone, during }
    }
}

/// The witness's, of one run.
struct Latencies {
    /// Before and after.
    alone: Vec<Duration>,
    during: Vec<Duration>,
}

/// Whether the long tier is run.
pub(crate) fn is_soaking() -> bool {
    !soak().is_zero()
}

/// Its share of the time that is given for all fifteen.
fn soak() -> Duration {
    let Ok(text) = std::env::var("EDGETRAIL_SOAK") else { return Duration::ZERO };
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let seconds = match unit {
        "h" => 3600,
        "m" => 60,
        _ => 1,
    };
    Duration::from_secs(number.parse::<u64>().unwrap_or_else(|_| panic!("EDGETRAIL_SOAK={text}: give 1h, 30m or 90s")) * seconds)
        / 15
}

/// The directory's entries and its parent's that look like ours: where a path that escaped would lead.
fn top_level(dir: &Path) -> BTreeSet<PathBuf> {
    let list = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let outside = list(Path::new("/tmp")).filter(|path| path.to_string_lossy().contains("escaped"));
    list(dir).chain(outside).collect()
}

fn median(latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn p99(latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    sorted.get((sorted.len() * 99 / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

struct Witness {
    stop: Arc<AtomicBool>,
    latencies: Arc<std::sync::Mutex<Vec<Duration>>>,
    posting: JoinHandle<()>,
}

impl Witness {
    fn start(socket: &Path) -> Self {
        let (stop, latencies) = (Arc::new(AtomicBool::new(false)), Arc::new(std::sync::Mutex::new(Vec::new())));
        let (stopped, noted, socket) = (Arc::clone(&stop), Arc::clone(&latencies), PathBuf::from(socket));
        let posting = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                post_one(&socket, &json!({ "eventSource": "tests.example", "eventName": "Witness" }));
                noted.lock().unwrap().push(began.elapsed());
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        Self { stop, latencies, posting }
    }

    fn latencies(&self) -> Vec<Duration> {
        self.latencies.lock().unwrap().clone()
    }

    fn latencies_since(&self, from: usize) -> Vec<Duration> {
        self.latencies.lock().unwrap()[from..].to_vec()
    }

    fn stop(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.posting.join().expect("the witness was always answered");
        let latencies = self.latencies.lock().unwrap();
        latencies.clone()
    }
}

/// The most that a process had in memory.
struct Memory {
    stop: Arc<AtomicBool>,
    most_kib: Arc<AtomicU64>,
    before_kib: u64,
    sampling: JoinHandle<()>,
}

impl Memory {
    fn watch(process: u32) -> Self {
        let before_kib = resident_kib(process);
        let (stop, most_kib) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(before_kib)));
        let (stopped, most) = (Arc::clone(&stop), Arc::clone(&most_kib));
        let sampling = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                most.fetch_max(resident_kib(process), Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { stop, most_kib, before_kib, sampling }
    }

    fn growth_kib(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.sampling.join().unwrap();
        self.most_kib.load(Ordering::Relaxed).saturating_sub(self.before_kib)
    }
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
