//! The audit source alone, in this process: what it says of what it lost, and what it hears of a changed login user.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use edgetrail_agent::observation::{self, Outlet, Payload};
use edgetrail_agent::sources::audit::kernel;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::machine::AuditOn;
use crate::skipped;

/// More than the kernel's buffer for the source (32 MiB) and the source's own queues hold together: at 5 records an event,
/// some 7,000 events fit.
const FLOOD: u64 = 20_000;

/// Bounds the whole of a test's reading: what has not come by then is missing.
const PATIENCE: Duration = Duration::from_secs(60);

/// The source, running, and who reads from it.
pub(crate) struct Source {
    outlet: Outlet,
    stop: CancellationToken,
    running: JoinSet<()>,
    heard: Heard,
}

/// What came of the events that the test made.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// Events whose text holds the mark.
    pub(crate) events: u64,
    /// Events that the source says are missing.
    declared: u64,
    /// Losses whose extent the source could not tell.
    unbounded: u64,
}

impl Source {
    pub(crate) fn start() -> Self {
        let (intake, outlet) = observation::intake();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        let stopped = stop.clone();
        running.spawn(async move { kernel::run(kernel::Stream::Multicast, None, None, intake, stopped).await.unwrap() });
        Self { outlet, stop, running, heard: Heard::default() }
    }

    /// Reads until `enough` says so, or nothing has come for `quiet`.
    async fn read(&mut self, mark: &str, quiet: Duration, enough: impl Fn(&Heard) -> bool) {
        let reading = async {
            while !enough(&self.heard) {
                let Ok(Some(group)) = tokio::time::timeout(quiet, self.outlet.recv()).await else { break };
                group.iter().for_each(|observation| self.heard.take(&observation.payload, mark));
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the source comes to an end");
    }

    /// An orderly stop declares what is still missing.
    pub(crate) async fn stop(mut self, mark: &str) -> Heard {
        self.stop.cancel();
        let rest = async {
            while let Some(group) = self.outlet.recv().await {
                group.iter().for_each(|observation| self.heard.take(&observation.payload, mark));
            }
            self.running.join_next().await.unwrap().unwrap();
        };
        tokio::time::timeout(PATIENCE, rest).await.expect("the source stops");
        self.heard
    }
}

impl Heard {
    fn take(&mut self, payload: &Payload, mark: &str) {
        match payload {
            Payload::Audit(event) => {
                let is_marked = event.records.iter().any(|record| record.text().contains(mark));
                self.events += u64::from(is_marked);
            }
            Payload::Loss(loss) => match loss.count {
                Some(count) => self.declared += count,
                None => self.unbounded += 1,
            },
            Payload::Unparsed(unparsed) => panic!("not understood: {unparsed:?}"),
            _ => {}
        }
    }
}

/// A program that opens a file as often as it is told to; killed when dropped.
struct Opener(Child);

impl Opener {
    fn start() -> Self {
        let program = "import os, sys\nfor line in sys.stdin:\n for _ in range(int(line)): os.close(os.open('/dev/null', os.O_RDONLY))\n print(flush=True)";
        let mut command = Command::new("python3");
        Self(command.args(["-u", "-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Returns once all are made.
    fn open(&mut self, times: u64) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{times}").unwrap();
        let mut done = [0; 1];
        std::io::Read::read_exact(self.0.stdout.as_mut().unwrap(), &mut done).unwrap();
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_declares_no_less_than_it_lost() {
    if skipped() {
        return;
    }
    let audit = AuditOn::now();
    let mut opener = Opener::start();
    audit.watch("openat", &format!("pid={}", opener.id()));
    let mark = format!(" pid={} ", opener.id());
    let mut source = Source::start();
    let mut made = 0;
    while source.heard.events == 0 {
        // What happens before the source listens is nobody's.
        assert!(made < 50, "the source hears nothing");
        opener.open(1);
        made += 1;
        source.read(&mark, Duration::from_millis(700), |heard| heard.events > 0).await;
    }
    let before = source.heard.events;

    // Nobody reads meanwhile.
    opener.open(FLOOD);
    source.read(&mark, Duration::from_secs(3), |_| false).await;
    let told = source.heard.events;
    // Behind the loss it hears as before.
    opener.open(1);
    source.read(&mark, Duration::from_secs(20), |heard| heard.events > told).await;
    assert_eq!(source.heard.events, told + 1, "what comes behind a loss is heard");
    audit.forget_rules();
    let heard = source.stop(&mark).await;
    let lost = FLOOD.checked_sub(heard.events - before - 1).expect("no event is heard twice");
    eprintln!("of {FLOOD} events {lost} were lost and {} declared as lost", heard.declared);
    assert!(lost > 0, "the flood was to overrun the source");
    assert!(heard.declared >= lost || heard.unbounded > 0, "{lost} were lost: {heard:?}");
    // The machine's other events of these seconds may be among the lost.
    assert!(heard.declared < lost + FLOOD / 4, "{lost} were lost: {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_login_user_is_heard_and_nothing_is_lost() {
    if skipped() {
        return;
    }
    let _audit = AuditOn::now();
    let mut source = Source::start();
    let mut login = 4_000_000;
    // A uid that no other test has: the second write changes what the first had set.
    let mark = "old-auid=40000";
    while source.heard.events == 0 {
        assert!(login < 4_000_050, "the source hears nothing");
        let script = format!("echo {login} >/proc/self/loginuid && echo {} >/proc/self/loginuid", login + 1);
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        login += 1;
        source.read(mark, Duration::from_millis(700), |heard| heard.events > 0).await;
    }
    let heard = source.stop(mark).await;
    assert_eq!((heard.declared, heard.unbounded), (0, 0), "{heard:?}");
}
