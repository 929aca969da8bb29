//! A wall clock that is set back: opens stay in order, what was sealed before one is told from a fork.

use super::*;

const HOUR: u64 = 3_600_000_000_000;

/// t_opened of every stream, and the latest t_sealed of each.
fn times(scribe: &Scribe) -> Vec<(u64, u64)> {
    let db = &scribe.desk.store.db;
    let streams = store::streams(db, STREAMS_READ_MAX).unwrap();
    let sealed = |ordinal| store::batches(db, ordinal, 0, usize::MAX).unwrap().iter().map(|b| b.header.t_sealed).max();
    streams.iter().map(|row| (row.open.t_opened, sealed(row.ordinal).unwrap_or(0))).collect()
}

fn assert_in_order(scribe: &Scribe) {
    let times = times(scribe);
    assert!(times.len() > 1, "a successor was opened");
    for pair in times.windows(2) {
        let ((opened, sealed), (next, _)) = (pair[0], pair[1]);
        assert!(next > opened, "opened before its predecessor: {times:?}");
        assert!(next > sealed, "what was sealed in order would pass for a second branch: {times:?}");
    }
}

#[test]
fn a_successor_is_opened_behind_all_that_was_sealed_though_the_clock_went_back_before_an_orderly_close() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    rig.now -= HOUR;
    rig.commit(&mut scribe, &["b"], true).unwrap();
    scribe.close(rig.now).unwrap();
    drop(scribe);
    let scribe = rig.open();
    assert_in_order(&scribe);
}

#[test]
fn a_successor_is_opened_behind_all_that_was_sealed_though_the_clock_went_back_over_a_restart() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    drop(scribe);
    std::fs::remove_file(rig.path().join(crate::buffer::KEY_FILE)).unwrap();
    rig.now -= HOUR;
    for _ in 0..3 {
        let mut scribe = rig.open();
        rig.commit(&mut scribe, &["b"], true).unwrap();
        scribe.close(rig.now).unwrap();
    }
    let scribe = rig.open();
    assert_in_order(&scribe);
    // The host's clock again once it has caught up.
    drop(scribe);
    rig.now += 2 * HOUR;
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["c"], true).unwrap();
    scribe.close(rig.now).unwrap();
    drop(scribe);
    let scribe = rig.open();
    assert_eq!(times(&scribe).last().unwrap().0, rig.now);
}

#[test]
fn batches_say_the_hosts_own_clock_whatever_it_said_before() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    rig.now -= HOUR;
    rig.commit(&mut scribe, &["b"], true).unwrap();
    let db = &scribe.desk.store.db;
    let batches = store::batches(db, scribe.line.ordinal, 0, usize::MAX).unwrap();
    assert_eq!(batches.last().unwrap().header.t_sealed, rig.now);
}

#[test]
fn a_clock_that_stood_beyond_the_certificates_end_carries_no_later_open_along() {
    let mut rig = Rig::joined();
    rig.place.opener = Arc::new(opener_until(rig.path(), 2028));
    let now = rig.now;
    // 2037.
    rig.now += 10 * 365 * 24 * HOUR;
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    scribe.close(rig.now).unwrap();
    drop(scribe);
    rig.now = now;
    let scribe = rig.open();
    assert_eq!(times(&scribe).last().unwrap().0, rig.now, "an open that no verifier would take");
}
