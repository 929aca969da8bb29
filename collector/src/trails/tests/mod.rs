//! Trails over the real ledger, with a sink and a clock that obey.

mod auditor;
mod bench;
mod crash;
mod s3;
mod windows;

use bench::{ACCOUNTS, Bench, REGIONS};

use crate::sinks::{Double, Fault};

#[tokio::test]
async fn digests_of_two_regions_and_two_accounts_verify() {
    let mut bench = Bench::new();
    bench.start();
    let mut sent = auditor::Delivered::new();
    for window in 1..=5 {
        let mut agent = 0;
        for account in ACCOUNTS {
            for region in REGIONS {
                agent += 1;
                // The last lane is silent in every second window: its digests then list nothing.
                let count = if agent == 4 && window % 2 == 0 { 0 } else { 3 };
                let records = bench.commit(agent, account, region, count).await;
                sent.entry((account.to_owned(), region.to_owned())).or_default().extend(records);
            }
        }
        bench.caught_up().await;
        bench.advance(60);
        bench.delivered("CloudTrail-Digest", window * 4).await;
    }
    assert_eq!(auditor::delivered(&bench.sink), sent);
    let keys = bench.trails().public_keys(None, bench.now(), bench.now()).unwrap();
    assert_eq!(keys.len(), 2, "one key for each region");
    let chains = auditor::chains(&bench.sink, &keys);
    assert_eq!(chains.len(), 4);
    for (lane, chains) in &chains {
        assert_eq!(chains.len(), 1, "{lane:?}");
        assert_eq!(chains[0].digests.len(), 5, "{lane:?}");
    }
    let status = bench.trails().status(&bench.trail.arn).unwrap();
    assert!(status.is_logging && status.latest_digest_delivery_time.is_some() && status.failing_since.is_none());
}

#[tokio::test]
async fn a_trail_without_validation_delivers_files_alone_and_forgets_them() {
    let mut bench = Bench::with(|trail| trail.validation = false);
    bench.start();
    let mut sent = Vec::new();
    for round in 1..=5 {
        sent.extend(bench.commit(1, ACCOUNTS[0], REGIONS[0], 2).await);
        bench.caught_up().await;
        bench.advance(100);
        bench.delivered("CloudTrail", round).await;
    }
    assert_eq!(auditor::delivered(&bench.sink).into_values().collect::<Vec<_>>(), [sent]);
    assert!(bench.keys("CloudTrail-Digest").is_empty() && bench.keys("CloudTrail-Proof").is_empty());
    bench::eventually("what no digest lists is forgotten", || bench.planned_objects().len() == 1).await;
}

#[tokio::test]
async fn a_trail_whose_sink_fails_holds_back_no_other() {
    let mut bench = Bench::new();
    let healthy = Double::default();
    let mut other = bench.trail.clone();
    other.arn = bench.trail.arn.replace("default", "other");
    "other".clone_into(&mut other.name);
    other.multi_region = false;
    bench.other = Some((other.clone(), healthy.clone()));
    bench.sink.fault(Fault::HangsBefore);
    bench.start();
    let here = bench.commit(1, ACCOUNTS[0], REGIONS[0], 3).await;
    bench.commit(2, ACCOUNTS[0], REGIONS[1], 3).await;
    bench.caught_up().await;
    bench.advance(60);
    bench::eventually("the other trail delivers", || {
        healthy.order().iter().any(|key| key.contains("/CloudTrail-Digest/") && key.contains("_other_"))
    })
    .await;
    assert!(bench.sink.order().is_empty());
    // It is of one region: the other region's records are not its.
    assert_eq!(auditor::delivered(&healthy).into_values().collect::<Vec<_>>(), [here]);
    assert!(bench.trails().status(&other.arn).unwrap().failing_since.is_none());
}
