//! `answer_after = "receipt"`: a caller is answered only when the collector has it, however long that is away.

use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::wait;
use serde_json::json;

#[test]
fn a_caller_is_answered_only_after_the_receipt_also_across_a_restart_of_the_collector() {
    let mut deployment = Deployment::with_settings("[sources.api]\nanswer_after = \"receipt\"\n");
    let event = |name: &str| json!({"eventSource": "shop.example", "eventName": name});
    post_one(deployment.socket(), &event("RefundBefore"));
    wait::until("the receipt of all", Duration::from_secs(30), || (deployment.status(0)["buffer"]["records"] == 0).then_some(()));

    deployment.kill_collector();
    let socket = deployment.socket().to_owned();
    let (name, body) = ("RefundMeanwhile", event("RefundMeanwhile"));
    let caller = std::thread::spawn(move || post_one(&socket, &body));
    wait::until("the commit", Duration::from_secs(30), || (deployment.status(0)["buffer"]["records"] == 1).then_some(()));
    assert!(!caller.is_finished(), "answered without a receipt");
    deployment.start_collector();
    assert_eq!(caller.join().unwrap().status, 200);
    // Answered is in the ledger: also one that is killed at once delivers it, once.
    deployment.kill_collector();
    deployment.start_collector();
    let times = |deployment: &Deployment| {
        delivered::records(&deployment.trail()).into_iter().filter(|(_, record)| record["eventName"] == name).count()
    };
    wait::until("the log file", Duration::from_secs(60), || (times(&deployment) > 0).then_some(()));
    deployment.stop_agents_and_logging();
    assert_eq!(times(&deployment), 1);
}
