//! The root replaced under two live agents: nobody joins anew, nothing is lost, auditors can follow both roots.

use std::process::Command;
use std::time::Duration;

use edgetrail_tests::deployment::{Deployment, HOME};
use edgetrail_tests::process::{binary, succeed, text};
use edgetrail_tests::wait;
use serde_json::Value;

use crate::poster::Poster;

fn roots(deployment: &Deployment) -> Value {
    let output = succeed(deployment.collector_command().args(["ca", "show", "-o", "json"]));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_root_is_replaced_while_agents_send_and_nobody_joins_anew() {
    let settings = "[pki]\ncertificate_life = \"8s\"\naccelerated = true\n";
    let mut deployment = Deployment::with_collector_settings(&[HOME, HOME], settings);
    let posters = [Poster::start(deployment.socket_of(0), "One"), Poster::start(deployment.socket_of(1), "Two")];
    let first = roots(&deployment)["roots"][0]["pin"].clone();
    succeed(deployment.collector_command().args(["ca", "rotate"]));
    let refused = deployment.collector_command().args(["ca", "retire"]).output().unwrap();
    assert!(!refused.status.success() && text(&refused).contains("2 agents"), "{}", text(&refused));
    let shown = wait::until("both agents to learn the new root", Duration::from_secs(60), || {
        let shown = roots(&deployment);
        shown["agentsThatNeedTheFormer"].as_array().unwrap().is_empty().then_some(shown)
    });
    let next = shown["roots"][1]["pin"].clone();
    succeed(deployment.collector_command().args(["ca", "retire"]));
    assert_eq!(roots(&deployment)["roots"][0]["pin"], next);
    assert_ne!(first, next);
    wait::until("the running collector to take it up", Duration::from_secs(20), || {
        deployment.collector_printed().contains("roots=1").then_some(())
    });
    for poster in posters {
        poster.all_delivered(&deployment.trail());
    }
    assert_eq!(deployment.agent_printed(0).matches("resumed").count(), 1, "one session through all of it");

    // A restart makes everybody shake hands under the new root alone; receipts go on under the same key, signed anew.
    deployment.stop();
    deployment.start();
    let again = [Poster::start(deployment.socket_of(0), "OneAgain"), Poster::start(deployment.socket_of(1), "TwoAgain")];
    for poster in again {
        poster.all_delivered(&deployment.trail());
    }
    deployment.wait_until_all_digested();
    // Proofs hold certificates of both roots: an auditor follows them with roots.pem.
    let verify = |ca: std::path::PathBuf| {
        let mut verify = Command::new(binary("edgetrail-verify"));
        verify.args(["trail", "--keys", &format!("https://127.0.0.1:{}/v1/keys", deployment.api_port()), "--dir"]);
        verify.arg(deployment.trail()).arg("--ca").arg(ca).output().unwrap()
    };
    let verified = verify(deployment.collector_state().join("pki/roots.pem"));
    assert!(verified.status.success(), "{}", text(&verified));
    let with_the_new_alone = verify(deployment.ca());
    assert!(!with_the_new_alone.status.success(), "opens of before lead to the former root: {}", text(&with_the_new_alone));
}
