//! Lines of a followed file that are no events: a record each, and the lines around them are read.

use std::fs;
use std::time::Duration;

use edgetrail_tests::delivered;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::wait;
use serde_json::Value;

#[test]
fn garbage_lines_are_delivered_as_unparsed_observations() {
    let dir = tempfile::tempdir().unwrap();
    let (events, records) = (dir.path().join("events.log"), dir.path().join("records.log"));
    let long = format!("{{\"eventSource\":\"a.b\",\"eventName\":\"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let mut lines = br#"{"eventSource":"a.example","eventName":"First"}"#.to_vec();
    for line in [
        &b"not JSON"[..],
        b"\xff\xfe\x00\x01",
        b"{\"eventSource\":",
        b"[[[[[[[[",
        b"{\"eventSource\":\"a.b\",\"eventName\":7}",
        long.as_bytes(),
    ] {
        lines.push(b'\n');
        lines.extend_from_slice(line);
    }
    lines.extend_from_slice(b"\n{\"eventSource\":\"a.example\",\"eventName\":\"Last\"}\n");
    fs::write(&events, lines).unwrap();
    fs::write(&records, "{\"Records\":3}\nneither\n").unwrap();
    let section = |path: &std::path::Path, format: &str| {
        format!("[[sources.file]]\npaths = [\"{}\"]\nformat = \"{format}\"\nstart = \"beginning\"\n", path.display())
    };
    let deployment = Deployment::with_settings(&(section(&events, "events") + &section(&records, "cloudtrail")));

    let named = |name: &str| -> Vec<Value> {
        let all = delivered::records(&deployment.trail()).into_iter().map(|(_, record)| record);
        all.filter(|record| record["eventName"] == name).collect()
    };
    let unparsed = wait::until("every bad line's record", Duration::from_secs(30), || {
        Some(named("UnparsedObservation")).filter(|unparsed| unparsed.len() >= 8)
    });
    assert_eq!(unparsed.len(), 8, "{unparsed:#?}");
    for record in &unparsed {
        assert!(record["errorMessage"].as_str().is_some_and(|why| !why.is_empty()), "what is wrong is said: {record:#}");
        assert_eq!(record["eventSource"], "agent.edgetrail");
    }
    let text = serde_json::to_string(&unparsed).unwrap();
    assert!(text.contains("not JSON") && text.contains("neither"), "the text is kept: {text:.2000}");
    wait::until("the good lines", Duration::from_secs(30), || {
        (named("First").len() == 1 && named("Last").len() == 1).then_some(())
    });
}
