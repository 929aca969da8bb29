//! Trails over the real ledger, with a sink and a clock that obey.

mod auditor;
mod bench;
mod crash;
mod s3;
mod windows;

use bench::{ACCOUNTS, Bench, REGIONS};

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
