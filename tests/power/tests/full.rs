//! A disk that is full: receipts still release rows, nothing answered is lost, and the room goes back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use edgetrail_agent::buffer::Limits;
use edgetrail_link::outbox::Outbox;
use edgetrail_power::agent::{self, Agent};
use edgetrail_power::collector::Collector;
use edgetrail_power::promise::Promises;
use edgetrail_power::rng::Rng;
use edgetrail_power::{Disk, seeds};

fn small() -> Limits {
    Limits { max_bytes: 64 << 20, reserve_bytes: 512 << 10, min_free_bytes: 64 << 10, ..Limits::default() }
}

#[test]
fn a_disk_that_somebody_else_filled_still_lets_receipts_release_rows() {
    for seed in seeds::chosen(12) {
        let disk = Disk::new(seed);
        let mut rng = Rng::new(seed);
        let (mut promises, mut collector) = (Promises::default(), Collector::default());
        disk.set_capacity(Some(64 << 20));
        agent::join(&disk).unwrap();
        let agent = Agent::start_with(&disk, small()).unwrap();
        for _ in 0..20 + rng.below(60) {
            let count = 1 + rng.below(30);
            let records = promises.make(count);
            assert!(agent.commit(&records, rng.one_in(3)));
            promises.answer(count);
        }
        // Not a byte is left, and it stays so.
        disk.set_capacity(Some(disk.used()));
        let full = (0..40).any(|_| {
            let count = 1 + rng.below(300);
            let records = promises.make(count);
            let taken = agent.commit(&records, rng.one_in(3));
            if taken {
                promises.answer(count);
            }
            !taken
        });
        assert!(full, "a full disk takes no more");
        let empty = (0..10).any(|_| {
            let drained = collector.drain(&agent.shelf, &mut rng);
            let all = drained.and_then(|()| collector.confirm(&agent.shelf));
            all.is_ok() && agent.shelf.held().is_ok_and(|held| held.iter().all(|stream| stream.unreceipted.is_empty()))
        });
        assert!(empty, "receipts release every batch");
        disk.set_capacity(None);
        let started = Instant::now();
        while !agent.commit(&promises.make(1), true) {
            assert!(started.elapsed() < Duration::from_secs(20), "with room again, records are taken");
        }
        promises.answer(1);
        collector.drain(&agent.shelf, &mut rng).unwrap();
        agent.stop(true);
        let lost = promises.lost(&collector);
        assert!(lost.is_empty(), "seed {seed}: answered and lost: {lost:?}");
        assert!(Promises::doubled(&collector).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_stop_on_a_full_disk_is_orderly() {
    for seed in seeds::chosen(12) {
        let disk = Disk::new(seed);
        let mut rng = Rng::new(seed);
        let (mut promises, mut collector) = (Promises::default(), Collector::default());
        disk.set_capacity(Some(64 << 20));
        agent::join(&disk).unwrap();
        let agent = Agent::start_with(&disk, small()).unwrap();
        for _ in 0..rng.below(40) {
            let count = 1 + rng.below(30);
            assert!(agent.commit(&promises.make(count), rng.one_in(3)));
            promises.answer(count);
        }
        disk.set_capacity(Some(disk.used()));
        // On some seeds the ballast is spent before the stop, on others the close itself finds the disk full.
        for _ in 0..rng.below(4) * 10 {
            let count = 1 + rng.below(300);
            let records = promises.make(count);
            if !agent.commit(&records, rng.one_in(3)) {
                break;
            }
            promises.answer(count);
        }
        assert!(agent.stop(true), "seed {seed}: the close found no room");
        disk.set_capacity(None);
        let agent = Agent::start_with(&disk, small()).unwrap();
        collector.drain(&agent.shelf, &mut rng).unwrap();
        assert_eq!(collector.gaps("unclean-restart"), 0, "seed {seed}: the stop was orderly");
        assert!(promises.lost(&collector).is_empty(), "seed {seed}: answered and lost");
        agent.stop(true);
    }
}

#[test]
fn the_room_of_a_backlog_goes_back_to_the_disk() {
    let disk = Disk::new(1);
    let mut rng = Rng::new(1);
    let mut collector = Collector::default();
    agent::join(&disk).unwrap();
    let agent = Agent::start_with(&disk, small()).unwrap();
    for n in 0..48 {
        assert!(agent.commit(&[format!("{n}{}", "x".repeat(900 << 10))], true));
    }
    let file = agent::dir(&disk).join("buffer.sqlite");
    collector.drain(&agent.shelf, &mut rng).unwrap();
    collector.confirm(&agent.shelf).unwrap();
    for n in 0..24 {
        assert!(agent.commit(&[n.to_string()], true));
        collector.drain(&agent.shelf, &mut rng).unwrap();
        collector.confirm(&agent.shelf).unwrap();
    }
    agent.stop(true);
    let length = disk.content(&file).unwrap().len();
    assert!(length < 24 << 20, "{length} bytes are left of 48 MiB");
}
