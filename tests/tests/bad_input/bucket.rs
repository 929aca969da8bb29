//! A bucket that can't be reached: the trail says so and waits, capture goes on, and all of it arrives later.

use std::time::Duration;

use edgetrail_tests::deployment::{Deployment, HOME, Sink};
use edgetrail_tests::posting::post_one;
use edgetrail_tests::wait;
use serde_json::{Value, json};

#[test]
fn an_unreachable_bucket_is_shown_and_delivered_to_later() {
    let deployment = Deployment::new(&[HOME], Sink::S3Later);
    post_one(deployment.socket(), &json!({"eventSource": "bucket.example", "eventName": "Kept"}));
    let status = |deployment: &Deployment| deployment.aws().json(&["cloudtrail", "get-trail-status", "--name", "default"]);
    let error = wait::until("the trail's error", Duration::from_secs(30), || {
        status(&deployment)["LatestDeliveryError"].as_str().filter(|error| !error.is_empty()).map(str::to_owned)
    });
    // CloudTrail's own words are codes; the log has the sentence.
    assert_eq!(error, "ServiceUnavailable");
    let printed = deployment.collector_printed();
    assert!(printed.contains("tried again") || printed.contains("the sink can't be used"), "{printed}");
    assert!(status(&deployment)["IsLogging"].as_bool().unwrap(), "the trail waits, it does not stop");
    // History does not wait for the bucket, which is still out of reach.
    let lookup = ["cloudtrail", "lookup-events", "--lookup-attributes", "AttributeKey=EventName,AttributeValue=Kept"];
    wait::until("the event in history", Duration::from_secs(30), || {
        (deployment.aws().json(&lookup)["Events"].as_array()?.len() == 1).then_some(())
    });

    deployment.open_s3();
    let keys = wait::until("the log file", Duration::from_secs(60), || {
        let listed = deployment.aws().json(&["s3api", "list-objects-v2", "--bucket", deployment.bucket()]);
        let keys: Vec<String> =
            listed["Contents"].as_array()?.iter().filter_map(|object| object["Key"].as_str()).map(str::to_owned).collect();
        keys.iter().any(|key| key.contains("/CloudTrail/")).then_some(keys)
    });
    assert!(!keys.is_empty());
    wait::until("the trail's status to be well again", Duration::from_secs(30), || {
        let status = status(&deployment);
        let is_well =
            status["LatestDeliveryError"].as_str().is_none_or(str::is_empty) && status["LatestDeliveryTime"] != Value::Null;
        is_well.then_some(())
    });
}
