//! Two accounts and two regions, five digests each, judged by the unmodified `aws cloudtrail validate-logs`: through the
//! collector's own S3 face, and through an S3-compatible server.

use edgetrail_tests::deployment::{Deployment, Scope, Sink};
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::text;
use serde_json::json;

const DIGESTS: usize = 5;

pub(crate) const SCOPES: [Scope; 4] = [
    Scope { account: "111122223333", region: "dc-local-1" },
    Scope { account: "111122223333", region: "dc-tokyo-1" },
    Scope { account: "444455556666", region: "dc-local-1" },
    Scope { account: "444455556666", region: "dc-tokyo-1" },
];

/// Posts through every agent until each account and region has its digests, most of them with log files.
fn fill(deployment: &Deployment) {
    for round in 1..=DIGESTS {
        for (agent, scope) in SCOPES.iter().enumerate() {
            let id = format!("{}-{}-{round}", scope.account, scope.region);
            let event = json!({"eventSource": "shop.example", "eventName": "CreateOrder", "id": id});
            post_one(deployment.socket_of(agent), &event);
        }
        deployment.wait_for_digests(round);
    }
    deployment.wait_until_all_digested();
}

fn all_valid(deployment: &Deployment) {
    for Scope { account, region } in SCOPES {
        let output = deployment.validate_logs(account, region);
        let said = text(&output);
        assert!(output.status.success(), "{account} {region}: {said}");
        let valid = |what: &str| {
            let line = said.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("no count of {what} in {said}"));
            let (valid, all) = line.split_whitespace().next().unwrap().split_once('/').unwrap();
            assert_eq!(valid, all, "{line}");
            all.parse::<usize>().unwrap()
        };
        assert!(valid("digest files valid") >= DIGESTS, "{said}");
        assert!(valid("log files valid") >= 2, "{said}");
    }
}

#[test]
fn the_aws_cli_validates_through_the_collectors_own_s3_face() {
    let deployment = Deployment::new(&SCOPES, Sink::Directory);
    fill(&deployment);
    all_valid(&deployment);
    let audit = deployment.verify(&[]);
    assert!(audit.status.success(), "{}", text(&audit));
}

#[test]
fn the_aws_cli_validates_through_an_s3_server() {
    let deployment = Deployment::new(&SCOPES, Sink::S3);
    fill(&deployment);
    all_valid(&deployment);
    let audit = deployment.verify(&[]);
    assert!(audit.status.success(), "{}", text(&audit));
}
