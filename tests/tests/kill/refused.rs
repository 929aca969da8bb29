//! The kernel refuses a running agent or collector a write or a sync: of its state, or of what it delivers. Whatever each makes of it, every event whose
//! answer the caller has is delivered exactly once, and answers go on.
//!
//! strace attaches to the process and makes the n-th such call fail; so it is the very program that
//! ships that hears of it, from where it hears it on a bad disk. The power tests do the same to each single call of a model.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use edgetrail_tests::chance::{Chance, number};
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::load::Load;
use edgetrail_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

/// `EDGETRAIL_REFUSALS` gives another number.
const REFUSALS: u64 = 12;

/// What a disk can refuse. SQLite syncs by one of the two, everything else by the other.
const CALLS: [(&str, &str); 6] = [
    ("fdatasync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("fsync", "EIO"),
    ("fsync", "ENOSPC"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
];

/// A call that is refused is among so many of its kind.
const AMONG: u64 = 12;

/// A tracer at work on one process.
struct Refusal {
    tracer: Child,
    told: PathBuf,
}

impl Refusal {
    /// The `nth` of these calls from now on fails, and no other.
    fn of(process: u32, told: PathBuf, (call, error): (&str, &str), nth: u64) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-p", &process.to_string(), "-e", &format!("trace={call}")]);
        command.args(["-e", &format!("inject={call}:error={error}:when={nth}")]).arg("-o").arg(&told);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self { tracer: command.spawn().expect("strace starts"), told }
    }

    fn is_done(&self) -> bool {
        std::fs::read_to_string(&self.told).is_ok_and(|told| told.contains("(INJECTED)"))
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        // It lets go of whom it traces.
        if let Some(tracer) = i32::try_from(self.tracer.id()).ok().and_then(Pid::from_raw) {
            let told = kill_process(tracer, Signal::TERM);
            assert!(told.is_ok() || std::thread::panicking(), "strace can be told to end: {told:?}");
        }
        drop(self.tracer.wait());
    }
}

#[test]
fn no_answered_event_is_lost_or_doubled_where_a_call_is_refused() {
    let (mut chance, seed) = Chance::from_environment();
    let refusals = number("EDGETRAIL_REFUSALS", REFUSALS);
    let mut deployment = Deployment::with_one_agent();
    let load = Load::start(&deployment);
    let (mut refused, mut ended) = (0, 0);
    while refused < refusals {
        load.wait_for(4);
        let of_agent = chance.below(2) == 0;
        let process = if of_agent { deployment.agent_id(0) } else { deployment.collector_id() };
        let call = CALLS[usize::try_from(chance.below(6)).unwrap()];
        let nth = 1 + chance.below(AMONG);
        let refusal = Refusal::of(process, deployment.dir().join(format!("refused-{refused}")), call, nth);
        // One that was about to end for what it was refused before is no test of this call.
        wait::until(&format!("{call:?} to be refused"), Duration::from_secs(60), || {
            let runs = if of_agent { deployment.agent_runs(0) } else { deployment.collector_runs() };
            (refusal.is_done() || !runs).then_some(())
        });
        refused += u64::from(refusal.is_done());
        drop(refusal);
        // It goes on by itself, or ends and is started again as a service manager does; now and then it is killed besides.
        let is_killed = chance.below(3) == 0;
        let runs = if of_agent { deployment.agent_runs(0) } else { deployment.collector_runs() };
        ended += u64::from(!runs);
        if is_killed || !runs {
            if of_agent {
                deployment.kill_agent(0);
                deployment.start_agent(0);
            } else {
                deployment.kill_collector();
                deployment.start_collector();
            }
        }
    }
    // One may be about to end for what it was refused last.
    deployment.kill_agent(0);
    deployment.kill_collector();
    deployment.start();
    load.wait_for(4);
    let outcome = load.finish(&deployment);
    eprintln!("{refused} calls refused, {ended} processes ended by it");
    outcome.judge(seed);
}
