//! When windows end, what begins and ends a chain, and which day's key signs.

use super::auditor::{self, Chain};
use super::bench::{ACCOUNTS, Bench, REGIONS, START, eventually};
use crate::sinks::Fault;

/// 2026-01-03T00:00:00Z, fourteen hours after the start.
const MIDNIGHT: u64 = START + 14 * 3600;

fn only_lane(bench: &Bench) -> Vec<Chain> {
    let keys = bench.trails().public_keys(None, 0, u64::MAX).unwrap();
    let mut lanes = auditor::chains(&bench.sink, &keys);
    assert_eq!(lanes.len(), 1);
    lanes.pop_first().unwrap().1
}

fn files(digest: &serde_json::Value) -> usize {
    digest["logFiles"].as_array().unwrap().len()
}

#[tokio::test]
async fn stopping_ends_the_chain_with_its_own_record_and_starting_begins_another() {
    let mut bench = Bench::new();
    bench.start();
    let mut expected = bench.commit(1, ACCOUNTS[0], REGIONS[0], 2).await;
    bench.advance(7);
    let stop = bench.call("StopLogging").await;
    bench.trails().passed(stop).await;
    assert!(!bench.trails().status(&bench.trail.arn).unwrap().is_logging, "stopped when the call answers");
    bench.delivered("CloudTrail-Digest", 1).await;
    let chains = only_lane(&bench);
    assert_eq!((chains.len(), files(&chains[0].digests[0])), (1, 1));
    bench.check_proof(&chains[0].digests[0], 3);

    // Nothing of this is delivered, and no digest says anything of it.
    bench.commit(1, ACCOUNTS[0], REGIONS[0], 5).await;
    bench.call("StopLogging").await;
    bench.caught_up().await;
    bench.advance(200);

    let start = bench.call("StartLogging").await;
    bench.trails().passed(start).await;
    let status = bench.trails().status(&bench.trail.arn).unwrap();
    assert!(status.is_logging && status.start_logging_time > status.stop_logging_time);
    expected.extend(bench.commit(1, ACCOUNTS[0], REGIONS[0], 4).await);
    bench.call("StartLogging").await;
    bench.caught_up().await;
    bench.advance(60);
    bench.delivered("CloudTrail-Digest", 2).await;
    bench.advance(60);
    bench.delivered("CloudTrail-Digest", 3).await;

    let delivered = auditor::delivered(&bench.sink).into_values().flatten().collect::<Vec<_>>();
    let (calls, records): (Vec<_>, Vec<_>) = delivered.into_iter().partition(|record| record.contains("Logging"));
    assert_eq!(records, expected);
    let named: Vec<_> = calls.iter().map(|call| call.contains("StartLogging")).collect();
    assert_eq!(named, [false, true, true], "the stop and the start themselves, and no call in between");
    let chains = only_lane(&bench);
    assert_eq!(chains.iter().map(|chain| chain.digests.len()).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test]
async fn a_stop_survives_a_crash_and_is_done_once() {
    let mut bench = Bench::new();
    bench.sink.fault(Fault::FailsBefore);
    bench.start();
    bench.commit(1, ACCOUNTS[0], REGIONS[0], 2).await;
    let stop = bench.call("StopLogging").await;
    bench.trails().passed(stop).await;
    let planned = bench.planned_objects();
    bench.crash().await;
    bench.advance(100);
    bench.start();
    bench.trails().passed(stop).await;
    bench.planned().await;
    assert_eq!(bench.planned_objects(), planned);
    assert!(!bench.trails().status(&bench.trail.arn).unwrap().is_logging);
    bench.sink.heal();
    bench.delivered("CloudTrail-Digest", 1).await;
    only_lane(&bench);
}

#[tokio::test]
async fn two_stops_in_one_second_share_no_end() {
    let mut bench = Bench::new();
    bench.start();
    bench.commit(1, ACCOUNTS[0], REGIONS[0], 1).await;
    for name in ["StopLogging", "StartLogging", "StopLogging", "StartLogging", "StopLogging"] {
        let index = bench.call(name).await;
        bench.trails().passed(index).await;
    }
    bench.delivered("CloudTrail-Digest", 3).await;
    assert_eq!(only_lane(&bench).len(), 3);
}

#[tokio::test]
async fn only_the_collectors_own_stream_stops_a_trail() {
    let mut bench = Bench::new();
    bench.start();
    let forged = bench.call_of("StopLogging", "null");
    bench.commit_records(1, ACCOUNTS[0], REGIONS[0], &[forged]).await;
    let refused = bench.call_of("StopLogging", "\"AccessDenied\"");
    bench.commit_own(&[refused]).await;
    bench.caught_up().await;
    assert!(bench.trails().status(&bench.trail.arn).unwrap().is_logging);
}

#[tokio::test]
async fn each_day_has_its_key_and_yesterdays_is_erased() {
    let mut bench = Bench::new();
    bench.start();
    bench.commit(1, ACCOUNTS[0], REGIONS[0], 1).await;
    bench.caught_up().await;
    // 23:59:30, a minute's window each: the third ends at 00:00:30.
    bench.advance(MIDNIGHT - START - 90);
    bench.delivered("CloudTrail-Digest", 1).await;
    for digests in 2..=4 {
        bench.advance(60);
        bench.delivered("CloudTrail-Digest", digests).await;
    }
    let chains = only_lane(&bench);
    assert_eq!(chains[0].digests.len(), 4);
    let prints: Vec<_> = chains[0].digests.iter().map(|digest| digest["digestPublicKeyFingerprint"].clone()).collect();
    assert_eq!(prints[0], prints[1]);
    assert_ne!(prints[1], prints[2], "the window that crosses midnight ends in the new day and is signed by its key");
    assert_eq!(prints[2], prints[3]);
    let private = || std::fs::read_dir(bench.dir.path().join("digest-keys")).unwrap().count();
    eventually("yesterday's private key is erased", || private() == 1).await;
    assert_eq!(bench.trails().public_keys(None, START, MIDNIGHT + 100).unwrap().len(), 2);
}

#[tokio::test]
async fn after_downtime_the_window_runs_to_now_and_nothing_is_signed_for_a_past_day() {
    let mut bench = Bench::new();
    bench.start();
    bench.commit(1, ACCOUNTS[0], REGIONS[0], 1).await;
    bench.caught_up().await;
    bench.advance(60);
    bench.delivered("CloudTrail-Digest", 1).await;
    bench.crash().await;
    let missed = bench.commit(1, ACCOUNTS[0], REGIONS[0], 3).await;
    bench.advance(3 * 86_400);
    bench.start();
    bench.delivered("CloudTrail-Digest", 2).await;
    // What the ledger took in meanwhile may be in this window or the next: no later.
    bench.caught_up().await;
    bench.advance(60);
    bench.delivered("CloudTrail-Digest", 3).await;
    let chains = only_lane(&bench);
    let digests = &chains[0].digests;
    assert_eq!(digests.len(), 3);
    assert_eq!(digests[1]["digestStartTime"], digests[0]["digestEndTime"]);
    assert_eq!(digests[1]["digestEndTime"], "2026-01-05T10:01:00Z");
    let delivered: Vec<_> = auditor::delivered(&bench.sink).into_values().flatten().collect();
    assert_eq!(delivered[1..], missed);
}

#[tokio::test]
async fn a_silent_trail_and_a_host_that_sends_heartbeats_alone_have_digests() {
    let mut bench = Bench::new();
    bench.start();
    bench.commit(1, ACCOUNTS[1], REGIONS[1], 0).await;
    bench.caught_up().await;
    bench.advance(60);
    bench.delivered("CloudTrail-Digest", 2).await;
    let keys = bench.trails().public_keys(None, 0, u64::MAX).unwrap();
    let lanes = auditor::chains(&bench.sink, &keys);
    let home = (ACCOUNTS[0].to_owned(), REGIONS[0].to_owned());
    let hosts = (ACCOUNTS[1].to_owned(), REGIONS[1].to_owned());
    for (lane, batches) in [(home, 0), (hosts, 1)] {
        let digest = &lanes[&lane][0].digests[0];
        assert_eq!(files(digest), 0);
        assert!(digest["newestEventTime"].is_null() && digest["oldestEventTime"].is_null());
        assert_eq!(bench.check_proof(digest, 0), batches);
    }
}

#[tokio::test]
async fn files_are_closed_by_size_between_batches() {
    let mut bench = Bench::with(|trail| trail.log_bytes = 4096);
    bench.start();
    let mut sent = Vec::new();
    for _ in 0..10 {
        sent.extend(bench.commit(1, ACCOUNTS[0], REGIONS[0], 3).await);
    }
    bench.caught_up().await;
    bench.advance(60);
    bench.delivered("CloudTrail-Digest", 1).await;
    let delivered: Vec<_> = auditor::delivered(&bench.sink).into_values().flatten().collect();
    assert_eq!(delivered, sent);
    let digest = &only_lane(&bench)[0].digests[0];
    assert!(files(digest) > 2);
    bench.check_proof(digest, sent.len());
    let mut uniques: Vec<String> =
        bench.keys("CloudTrail").iter().map(|key| key[key.len() - 24..key.len() - 8].to_owned()).collect();
    assert!(uniques.is_sorted(), "later files of a trail sort behind earlier ones");
    assert!(uniques.iter().all(|unique| unique[..6] == uniques[0][..6]));
    uniques.dedup();
    assert_eq!(uniques.len(), files(digest));
}

#[tokio::test]
async fn a_sink_that_hangs_holds_back_neither_the_ledger_nor_planning() {
    let mut bench = Bench::new();
    bench.sink.script([Fault::None]);
    bench.sink.fault(Fault::HangsBefore);
    bench.start();
    let mut sent = Vec::new();
    for _ in 0..20 {
        sent.extend(bench.commit(1, ACCOUNTS[0], REGIONS[0], 1).await);
        bench.caught_up().await;
        bench.advance(10);
        bench.planned().await;
    }
    assert!(bench.planned_objects().len() >= 20);
    assert_eq!(bench.keys("CloudTrail").len(), 0);
    bench.crash().await;
    bench.sink.heal();
    bench.start();
    bench.delivered("CloudTrail", 20).await;
    let delivered: Vec<_> = auditor::delivered(&bench.sink).into_values().flatten().collect();
    assert_eq!(delivered, sent);
}
