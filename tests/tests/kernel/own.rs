//! What agent and collector do to their own files while every access there is watched: no event, for the record of one would
//! be the cause of the next.

use std::process::Command;
use std::time::Duration;

use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::succeed;
use edgetrail_tests::wait;
use serde_json::{Value, json};

use crate::acts::{Acts, named};
use crate::machine::AuditOn;
use crate::skipped;
use crate::source::Source;

const SETTINGS: &str = r#"[sources.audit]
enabled = true
[sources.audit.rules]
sets = ["identity", "privilege", "time", "modules", "mounts", "sudoers", "ssh-keys", "audit", "services", "containers"]
[select]
data = true
"#;

/// So many posted events, a moment apart: batches, log files and digests are written meanwhile.
const POSTED: usize = 40;

/// How the kernel names the two programs' processes.
const OWN: [&str; 2] = ["edgetrail-agent", "edgetrail-collector"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_and_collector_may_be_watched_at_their_own_files_and_others_are_recorded_there() {
    if skipped() {
        return;
    }
    let audit = AuditOn::now();
    let acts = Acts::captured_by(SETTINGS);
    acts.wait_for_rule("edgetrail-sudoers");
    let dir = acts.dir().display().to_string();
    audit.watch_folder(acts.dir());
    let mut source = Source::start();
    let write = || {
        for number in 0..POSTED {
            post_one(
                &acts.socket(),
                &json!({"eventSource": "shop.example", "eventName": "Posted", "requestParameters": {"number": number}}),
            );
            std::thread::sleep(Duration::from_millis(150));
        }
    };
    write();
    // That the kernel tells of both is what makes their absence worth something.
    for program in OWN {
        source.forget();
        source.read(&format!("{program}\""), Duration::from_secs(20), |heard| heard.events > 0).await;
        assert!(source.heard() > 0, "the kernel tells nothing of {program}");
    }
    let mark = format!("foreign-{}", std::process::id());
    let foreign = acts.dir().join("agent-0/state").join(&mark);
    std::fs::write(&foreign, "x").unwrap();
    succeed(Command::new("cat").arg(&foreign));
    let is_others = |record: &&Value| {
        record["userAgent"].as_str().is_some_and(|agent| agent.ends_with("/cat")) && record.to_string().contains(&mark)
    };
    wait::until("the other program's access in the trail", Duration::from_secs(60), || {
        // Looking is itself watched.
        std::thread::sleep(Duration::from_secs(1));
        acts.delivered_so_far().iter().any(|record| is_others(&record)).then_some(())
    });
    write();
    source.stop(&mark).await;
    let all = acts.all_delivered();
    let posted = named(&all, "Posted").count();
    assert_eq!(posted, 2 * POSTED, "both went on");
    assert!(named(&all, "ReportGap").next().is_none(), "nothing was lost here");
    let own: Vec<&Value> = all
        .iter()
        .filter(|record| record["userAgent"].as_str().is_some_and(|agent| OWN.iter().any(|program| agent.ends_with(program))))
        .filter(|record| record.to_string().contains(&dir))
        .collect();
    assert!(own.is_empty(), "{} records of Edgetrail's own access: {:#?}", own.len(), own.first());
    assert_eq!(all.iter().filter(is_others).count(), 1, "one access, one record");
}
