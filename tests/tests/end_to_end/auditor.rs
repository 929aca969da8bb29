//! What an auditor asks of a real trail: one agent's streams, one record's way back to its host, what is missing when.

use std::process::Output;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::text;
use serde_json::{Value, json};

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

#[test]
fn a_record_is_taken_back_to_its_host_and_a_crash_is_named_in_its_hour() {
    let mut deployment = Deployment::with_one_agent();
    post_one(deployment.socket(), &json!({"eventSource": "shop.example", "eventName": "RefundOrder", "id": "audit-1"}));
    deployment.wait_for_digests(1);
    // A kill leaves a gap of unknown size; the stream goes on behind it.
    deployment.kill_agent(0);
    deployment.start_agent(0);
    post_one(deployment.socket(), &json!({"eventSource": "shop.example", "eventName": "CancelOrder", "id": "audit-2"}));
    deployment.wait_until_all_digested();
    deployment.stop_agents_and_logging();

    let records = delivered::records(&deployment.trail());
    let (file, record) = records.iter().find(|(_, record)| record["eventName"] == "RefundOrder").unwrap();
    let in_file: Vec<_> = records.iter().filter(|(path, _)| path == file).collect();
    let index = in_file.iter().position(|(_, other)| other == record).unwrap();
    let host = record["additionalEventData"]["edgetrail"]["host"].as_str().unwrap();
    let agent = record["additionalEventData"]["edgetrail"]["agent"].as_str().unwrap();

    for wanted in [format!("{}#{index}", file.display()), record["eventID"].as_str().unwrap().to_owned()] {
        let output = deployment.verify_by(&["record", &wanted], &[]);
        assert_eq!(output.status.code(), Some(0), "{wanted}: {}", text(&output));
        eprintln!("{}", text(&output));
        let json = json_of(&deployment.verify_by(&["record", &wanted], &["-o", "json"]));
        assert_eq!(json["proven"], true);
        assert_eq!((&json["trace"]["origin"]["host"], &json["trace"]["origin"]["agent"]), (&json!(host), &json!(agent)));
    }

    for name in [agent, host] {
        let output = deployment.verify_by(&["stream", name], &[]);
        eprintln!("{}", text(&output));
        assert_eq!(output.status.code(), Some(1), "the kill is a gap: {}", text(&output));
    }
    let json = json_of(&deployment.verify_by(&["stream", agent], &["-o", "json"]));
    assert_eq!((&json["integrity"], &json["completeness"], &json["times"]), (&json!(true), &json!(false), &json!(true)));
    let streams = json["report"]["accounts"].as_object().unwrap();
    assert_eq!(streams.len(), 1, "the stream goes on over a kill: {streams:?}");
    let stream = streams.values().next().unwrap();
    assert_eq!((&stream["cause"], &stream["closed"]), (&json!("join"), &json!(true)));
    let hours = stream["hours"].as_object().unwrap();
    let events: u64 = hours.values().map(|hour| hour["events"].as_u64().unwrap()).sum();
    let gaps: u64 = hours.values().filter_map(|hour| hour["gaps"]["unclean-restart"]["reports"].as_u64()).sum();
    assert_eq!(events, 2, "{hours:?}");
    assert!(gaps >= 1, "{hours:?}");
    let findings = json["report"]["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["check"] == "gap" || finding["verdict"] == "note"), "{findings:#?}");

    // Nobody of that name; a record that is none.
    assert_eq!(deployment.verify_by(&["stream", "nobody"], &[]).status.code(), Some(2));
    assert_eq!(deployment.verify_by(&["record", "nothing#0"], &[]).status.code(), Some(2));
    // Without the CA nobody vouches for the certificate; with a file that was touched, nobody for the record.
    std::fs::write(file, std::fs::read(file).unwrap().split_last().unwrap().1).unwrap();
    let touched = deployment.verify_by(&["record", &format!("{}#{index}", file.display())], &[]);
    assert_ne!(touched.status.code(), Some(0), "{}", text(&touched));
}
