//! What operators do by commands stands in the trail, as calls of the API do: who did what, and whether it worked.

use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

/// The records of what operators did, by eventName, in the order delivered.
fn acts(deployment: &Deployment, name: &str) -> Vec<Value> {
    let of_commands = |record: &Value| {
        record["eventSource"] == "collector.edgetrail" && record["eventType"] == "AwsApiCall" && record["eventName"] == name
    };
    delivered::records(&deployment.trail()).into_iter().map(|(_, record)| record).filter(of_commands).collect()
}

fn act(deployment: &Deployment, name: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    wait::until(name, Duration::from_secs(60), || acts(deployment, name).into_iter().find(&is_it))
}

#[test]
fn what_operators_do_by_commands_stands_in_the_trail() {
    let mut deployment = Deployment::with_one_agent();
    let key = act(&deployment, "CreateAccessKey", |act| act["requestParameters"]["userName"] == "tests");
    assert!(key["userIdentity"]["principalId"].is_string() && key["readOnly"] == false, "{key:#}");
    let token = act(&deployment, "CreateToken", |act| act["requestParameters"]["uses"] == 1);
    assert_eq!(token["requestParameters"]["scopes"][0], "111122223333/dc-local-1");

    let run = |arguments: &[&str]| succeed(deployment.collector_command().args(arguments));
    run(&["ca", "rotate"]);
    let refused = deployment.collector_command().args(["ca", "rotate"]).output().unwrap();
    assert!(!refused.status.success(), "a rotation is under way: {}", text(&refused));
    run(&["ca", "retire", "--force"]);
    act(&deployment, "RotateRoot", |act| act["errorCode"].is_null());
    let failed = act(&deployment, "RotateRoot", |act| act["errorCode"] == "Failed");
    assert!(failed["errorMessage"].as_str().is_some_and(|why| !why.is_empty()), "{failed:#}");
    act(&deployment, "RetireRoot", |act| act["requestParameters"]["force"] == true);

    // While no collector runs it is kept, and recorded at the next start.
    deployment.kill_collector();
    let made = succeed(deployment.collector_command().args(["access-key", "create", "--name", "night", "-o", "json"]));
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let id = made["access_key_id"].as_str().unwrap();
    succeed(deployment.collector_command().args(["access-key", "delete", id]));
    deployment.start_collector();
    let deleted = act(&deployment, "DeleteAccessKey", |act| act["requestParameters"]["accessKeyId"] == id);
    let created = act(&deployment, "CreateAccessKey", |act| act["requestParameters"]["accessKeyId"] == id);
    assert!(created["eventTime"].as_str() <= deleted["eventTime"].as_str());
    let secret = made["secret_access_key"].as_str().unwrap();
    assert!(!created.to_string().contains(secret), "no secret is told");
}
