//! The other ways to the kernel's audit: in auditd's place, and with rules of our own.

use std::process::Command;
use std::time::Duration;

use edgetrail_agent::observation::{self, Outlet, Payload};
use edgetrail_agent::sources::SourceError;
use edgetrail_agent::sources::audit::kernel::{self, Stream};
use edgetrail_agent::sources::audit::rules::{Config, Keeper, Set};
use edgetrail_agent::sources::audit::status::Control;
use edgetrail_tests::process::succeed;
use edgetrail_tests::wait;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::machine::AuditOn;
use crate::skipped;

const PATIENCE: Duration = Duration::from_secs(60);

fn start(stream: Stream, rules: Option<Keeper>) -> (Outlet, CancellationToken, JoinSet<Result<(), SourceError>>) {
    let (intake, outlet) = observation::intake();
    let (stop, mut running) = (CancellationToken::new(), JoinSet::new());
    let stopped = stop.clone();
    running.spawn(async move { kernel::run(stream, rules, None, intake, stopped).await });
    (outlet, stop, running)
}

/// Until an event tells of the mark.
async fn hear(outlet: &mut Outlet, mark: &str) {
    let hearing = async {
        while let Some(group) = outlet.recv().await {
            for observation in group {
                match observation.payload {
                    Payload::Audit(event) if event.records.iter().any(|record| record.text().contains(mark)) => return,
                    Payload::Unparsed(unparsed) => panic!("not understood: {unparsed:?}"),
                    _ => {}
                }
            }
        }
        panic!("the source ended");
    };
    tokio::time::timeout(PATIENCE, hearing).await.unwrap_or_else(|_| panic!("nothing told of {mark}"));
}

fn owner() -> u32 {
    Control::open().unwrap().status().unwrap().owner
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_is_taken_over_and_given_back() {
    if skipped() {
        return;
    }
    let audit = AuditOn::now();
    let (mut outlet, stop, mut running) = start(Stream::Unicast, None);
    let ours = tokio::task::spawn_blocking(|| {
        wait::until("the stream to be ours", PATIENCE, || (owner() == std::process::id()).then_some(()))
    });
    ours.await.unwrap();
    let mark = format!("takeover{}", std::process::id());
    succeed(Command::new("auditctl").args(["-m", &mark]));
    hear(&mut outlet, &mark).await;
    stop.cancel();
    while outlet.recv().await.is_some() {}
    running.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(owner(), 0);
    drop(audit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managed_rules_are_put_back_and_heard() {
    if skipped() {
        return;
    }
    let _audit = AuditOn::now();
    let listed = || String::from_utf8_lossy(&succeed(Command::new("auditctl").arg("-l")).stdout).into_owned();
    let sets = Set::ALL.to_vec();
    let keeper = Keeper::new(&Config { sets }).unwrap();
    let (mut outlet, stop, mut running) = start(Stream::Multicast, keeper);
    let rule = "-w /etc/sudoers -p wa -k edgetrail-sudoers";
    let present = move || wait::until("the rule", PATIENCE, || listed().contains(rule).then_some(()));
    tokio::task::spawn_blocking(present).await.unwrap();
    eprintln!("{}", listed());
    // Somebody takes one away: that is heard, and it comes back.
    succeed(Command::new("auditctl").args(["-W", "/etc/sudoers", "-p", "wa", "-k", "edgetrail-sudoers"]));
    hear(&mut outlet, "remove_rule").await;
    tokio::task::spawn_blocking(present).await.unwrap();
    // And what it watches is heard.
    succeed(Command::new("chmod").args(["--changes", "0440", "/etc/sudoers"]));
    hear(&mut outlet, "edgetrail-sudoers").await;
    stop.cancel();
    while outlet.recv().await.is_some() {}
    running.join_next().await.unwrap().unwrap().unwrap();
}
