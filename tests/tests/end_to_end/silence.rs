//! A host that stands still is named while it does, and when it is back; one that stops in order is not.

use std::time::{Duration, Instant};

use edgetrail_proto::limits::SILENCE_MAX;
use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::wait;
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn a_host_that_stands_still_is_named_in_time_and_when_it_is_back() {
    let mut deployment = Deployment::with_one_agent();
    let connected = |deployment: &Deployment| deployment.status(0)["uplink"]["connected"].is_string().then_some(());
    wait::until("a session", Duration::from_secs(30), || connected(&deployment));
    let agent = i32::try_from(deployment.agent_id(0)).ok().and_then(Pid::from_raw).unwrap();
    let says = |deployment: &Deployment, text: &str| deployment.collector_printed().matches(text).count();
    let (silent, back) = ("an agent has fallen silent", "an agent that was silent is back");

    kill_process(agent, Signal::STOP).unwrap();
    let since = Instant::now();
    wait::until("the silence", Duration::from_secs(30), || (says(&deployment, silent) > 0).then_some(()));
    assert!(since.elapsed() <= SILENCE_MAX, "{:?}", since.elapsed());
    kill_process(agent, Signal::CONT).unwrap();
    wait::until("the return", Duration::from_secs(60), || (says(&deployment, back) > 0).then_some(()));
    wait::until("both events in log files", Duration::from_secs(60), || {
        let records = delivered::records(&deployment.trail());
        let has = |name: &str| records.iter().any(|(_, record)| record["eventName"] == name);
        (has("SilentStream") && has("HearStream")).then_some(())
    });
    // What has stopped in order has said so.
    deployment.stop_agent(0);
    let stopped = Instant::now();
    wait::until("the time of a silence", Duration::from_secs(30), || (stopped.elapsed() > SILENCE_MAX).then_some(()));
    assert_eq!((says(&deployment, silent), says(&deployment, back)), (1, 1), "{}", deployment.collector_printed());
}
