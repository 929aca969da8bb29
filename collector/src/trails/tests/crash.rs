//! A crash between any two steps: the same keys and bytes again, no object twice, none missing.

use super::auditor;
use super::bench::{ACCOUNTS, Bench, REGIONS, eventually};
use crate::sinks::Fault;

/// What a run without any fault stores, in order, with the uncompressed bytes' hash.
type Stored = Vec<(String, Vec<u8>, crate::sinks::ObjectMeta)>;

fn stored(bench: &Bench) -> Stored {
    let object = |key: String| {
        let object = bench.sink.get(&key).unwrap();
        (key, object.bytes.to_vec(), object.meta)
    };
    bench.sink.order().into_iter().map(object).collect()
}

/// Two lanes, three files each, two windows. `faulty` is called before each wait for delivery.
async fn scenario(bench: &mut Bench) -> auditor::Delivered {
    let mut sent = auditor::Delivered::new();
    for round in 0..3 {
        for (agent, region) in (1..).zip(REGIONS) {
            let records = bench.commit(agent, ACCOUNTS[0], region, 2 + round).await;
            sent.entry((ACCOUNTS[0].to_owned(), region.to_owned())).or_default().extend(records);
        }
        bench.caught_up().await;
        // The first two rounds close files by age; the third closes the window.
        bench.advance(if round < 2 { 10 } else { 40 });
        bench.planned().await;
    }
    sent
}

async fn all_delivered(bench: &Bench) {
    bench.delivered("CloudTrail", 6).await;
    bench.delivered("CloudTrail-Digest", 2).await;
}

fn check(bench: &Bench, sent: &auditor::Delivered) {
    assert_eq!(&auditor::delivered(&bench.sink), sent);
    let keys = bench.trails().public_keys(None, 0, u64::MAX).unwrap();
    let chains = auditor::chains(&bench.sink, &keys);
    let digests: usize = chains.values().flatten().map(|chain| chain.digests.len()).sum();
    assert_eq!(digests, 2);
    assert_eq!(bench.keys("CloudTrail").len(), 6);
    assert_eq!(bench.keys("CloudTrail-Proof").len(), 2);
}

#[tokio::test]
async fn a_crash_at_any_put_repeats_it_with_the_same_key_and_bytes() {
    // Ten objects and the probe: every one of them hangs once, before and after it is stored; then everything crashes.
    for fault in [Fault::HangsBefore, Fault::HangsAfter] {
        for healthy in 1..=10 {
            let mut bench = Bench::new();
            bench.sink.script(std::iter::repeat_n(Fault::None, healthy).chain([fault]));
            bench.start();
            let sent = scenario(&mut bench).await;
            eventually("the fault was met", || bench.sink.puts() > healthy as u64).await;
            let before = stored(&bench);
            bench.crash().await;
            bench.sink.heal();
            bench.start();
            all_delivered(&bench).await;
            let after = stored(&bench);
            assert_eq!(after[..before.len()], before[..], "what was stored stays, and its bytes were the planned ones");
            check(&bench, &sent);
        }
    }
}

#[tokio::test]
async fn a_crash_before_anything_was_sent_loses_nothing_planned() {
    let mut bench = Bench::new();
    bench.sink.fault(Fault::FailsBefore);
    bench.start();
    let sent = scenario(&mut bench).await;
    let planned = bench.planned_objects();
    assert_eq!(planned.len(), 10);
    for _ in 0..3 {
        bench.crash().await;
        bench.start();
        assert_eq!(bench.planned_objects(), planned, "a plan is never made anew");
    }
    bench.sink.heal();
    all_delivered(&bench).await;
    check(&bench, &sent);
}

#[tokio::test]
async fn a_crash_with_open_files_reads_them_again() {
    let mut bench = Bench::new();
    bench.start();
    // Of two batches: the ledger's first entry alone would not show that others were read again.
    let mut first = bench.commit(1, ACCOUNTS[0], REGIONS[0], 3).await;
    first.extend(bench.commit(1, ACCOUNTS[0], REGIONS[0], 2).await);
    bench.caught_up().await;
    bench.advance(10);
    bench.delivered("CloudTrail", 1).await;
    // One file is planned in this window, another is open when the crash comes.
    let second = bench.commit(1, ACCOUNTS[0], REGIONS[0], 4).await;
    bench.caught_up().await;
    bench.crash().await;
    bench.start();
    bench.caught_up().await;
    bench.advance(10);
    bench.delivered("CloudTrail", 2).await;
    bench.advance(40);
    bench.delivered("CloudTrail-Digest", 1).await;
    let delivered = auditor::delivered(&bench.sink);
    assert_eq!(delivered.into_values().collect::<Vec<_>>(), [[first, second].concat()]);
    let keys = bench.trails().public_keys(None, 0, u64::MAX).unwrap();
    let chains = auditor::chains(&bench.sink, &keys);
    let digest = &chains.values().next().unwrap()[0].digests[0];
    assert_eq!(digest["logFiles"].as_array().unwrap().len(), 2);
    bench.check_proof(digest, 9);
}

#[tokio::test]
async fn a_sink_that_fails_before_or_after_storing_gets_each_object_once() {
    let mut bench = Bench::new();
    let faults = [Fault::FailsBefore, Fault::FailsAfter, Fault::None, Fault::FailsAfter, Fault::FailsBefore];
    bench.sink.script(faults.into_iter().cycle().take(40));
    bench.start();
    let sent = scenario(&mut bench).await;
    all_delivered(&bench).await;
    check(&bench, &sent);
}

#[tokio::test]
async fn another_object_under_a_planned_key_is_an_alarm_and_is_left_alone() {
    let mut bench = Bench::new();
    bench.sink.fault(Fault::FailsBefore);
    bench.start();
    bench.commit(1, ACCOUNTS[0], REGIONS[0], 1).await;
    bench.caught_up().await;
    bench.advance(10);
    bench.planned().await;
    let key = bench.planned_objects()[0].clone();
    bench.sink.heal();
    bench.sink.intrude(&key, b"something else");
    let status = || bench.trails().status(&bench.trail.arn).unwrap();
    eventually("the conflict is told", || status().latest_delivery_error.as_deref() == Some("ObjectConflict")).await;
    assert!(status().failing_because.unwrap().contains("object-conflict"));
    assert_eq!(bench.sink.get(&key).unwrap().bytes.as_ref(), b"something else");
    // The operator moves it away: delivery goes on by itself.
    bench.sink.remove(&key);
    eventually("delivery goes on", || status().latest_delivery_error.is_none()).await;
    assert_eq!(auditor::delivered(&bench.sink).values().map(Vec::len).sum::<usize>(), 1);
}
