//! What agent and collector write while they record: never the next thing to record.
//!
//! Rules on their directories and on every fsync of the machine make each commit an event. Were it a record, that record's
//! commit would be the next event, for ever.

use std::process::Command;

use edgetrail_tests::process::succeed;
use serde_json::Value;

use crate::acts::{Acts, named};
use crate::machine::AuditOn;
use crate::skipped;
use crate::source::Source;

/// Acts of somebody else in the same directory, each awaited: a commit, a batch, a receipt and a delivery lie between two.
const ACTS: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_agent_and_collector_write_is_never_the_next_thing_to_record() {
    if skipped() {
        return;
    }
    let audit = AuditOn::now();
    let acts = Acts::captured_by("[sources.audit]\nenabled = true\n[select]\ndata = true\n");
    // Two who hear all that the kernel tells, in this process: nothing here is their own.
    let (of_agent, of_collector) = (Source::start(), Source::start());
    audit.watch_tree(acts.dir());
    audit.watch("fsync", "pid!=1");
    audit.watch("fdatasync", "pid!=1");
    for number in 0..ACTS {
        let file = acts.dir().join(format!("theirs-{number}"));
        let output = format!("of={}", file.display());
        succeed(Command::new("dd").args(["if=/dev/null", "conv=fsync", "status=none", &output]));
        acts.wait_for_delivered("CreateFile", &file.display().to_string());
    }
    audit.forget_rules();

    let pid = acts.agent();
    let records = acts.all_delivered();
    assert!(named(&records, "ReportGap").next().is_none(), "nothing was lost: {records:#?}");
    let by = |program: &str| records.iter().filter(|record| is_by(record, program)).collect::<Vec<_>>();
    assert_eq!(by("dd").len() as u64, 2 * ACTS, "each file is made and synced: {:#?}", by("dd"));
    for program in ["edgetrail-agent", "edgetrail-collector"] {
        assert_eq!(by(program), Vec::<&Value>::new());
    }
    let agent = of_agent.stop(&format!(" pid={pid} ")).await.events;
    let collector = of_collector.stop("/edgetrail-collector\"").await.events;
    println!("the kernel told of {agent} acts of the agent and of {collector} of the collector; none is a record");
    assert!(agent >= ACTS && collector >= ACTS, "the rules were to meet what they write: {agent} and {collector}");
}

fn is_by(record: &Value, program: &str) -> bool {
    record["userAgent"].as_str().is_some_and(|agent| agent.rsplit('/').next() == Some(program))
}
