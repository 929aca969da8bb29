//! A crash at every step of every change: what was answered is there once, the chain holds, the stream goes on.

use super::*;

/// A change that a crash falls into.
#[derive(Clone, Copy, Debug)]
enum Change {
    Commit,
    CommitWaiting,
    CommitFilling,
    Seal,
    Heartbeat,
    Close,
}

const CHANGES: [Change; 6] =
    [Change::Commit, Change::CommitWaiting, Change::CommitFilling, Change::Seal, Change::Heartbeat, Change::Close];

const STEPS: [Step; 4] = [Step::BeforeCommit, Step::AfterCommit, Step::AfterSlot, Step::AfterErase];

#[test]
fn no_step_loses_or_doubles_a_committed_record_or_parts_it_from_its_cursor() {
    for change in CHANGES {
        for step in STEPS {
            let mut rig = Rig::joined();
            let mut scribe = rig.open();
            rig.commit(&mut scribe, &["a"], true).unwrap();
            if !matches!(change, Change::Heartbeat) {
                rig.commit(&mut scribe, &["b"], false).unwrap();
            }
            let filling: Vec<String> = (0..1500).map(|i| format!("f{i:04}")).collect();
            let filling: Vec<&str> = filling.iter().map(String::as_str).collect();
            scribe.desk.fault = Some(step);
            let (asked, done): (&[&str], _) = match change {
                Change::Commit => (&["c"], rig.commit(&mut scribe, &["c"], false)),
                Change::CommitWaiting => (&["c"], rig.commit(&mut scribe, &["c"], true)),
                Change::CommitFilling => (&filling, rig.commit(&mut scribe, &filling, false)),
                Change::Seal | Change::Heartbeat => (&[], rig.seal(&mut scribe)),
                Change::Close => (&[], scribe.close(rig.now)),
            };
            // A commit that seals nothing never comes to the key file.
            let reached = !matches!((change, step), (Change::Commit, Step::AfterSlot | Step::AfterErase));
            assert_eq!(done.is_err(), reached, "{change:?} {step:?}");
            drop(scribe);

            let mut scribe = rig.open();
            let cursor = cursor(&scribe);
            rig.commit(&mut scribe, &["z"], true).unwrap();
            let streams = walk(&scribe);
            let mut expected = vec!["a"];
            if !matches!(change, Change::Heartbeat) {
                expected.push("b");
            }
            if step != Step::BeforeCommit {
                expected.extend(asked);
            }
            assert_eq!(Some(cursor.as_str()), expected.last().copied(), "{change:?} {step:?}");
            expected.push("z");
            assert_eq!(observed(&streams), expected, "{change:?} {step:?}");
            assert!(!causes(&streams).contains(&Cause::BufferOrKeyLost), "{change:?} {step:?} lost the key");
        }
    }
}

#[test]
fn a_crash_is_bounded_by_a_gap_and_an_orderly_stop_is_not() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], false).unwrap();
    drop(scribe);
    let mut scribe = rig.open();
    scribe.close(rig.now).unwrap();
    drop(scribe);
    let mut scribe = rig.open();
    rig.seal(&mut scribe).unwrap();
    let streams = walk(&scribe);
    assert_eq!(causes(&streams), [Cause::Join, Cause::AfterClose]);
    assert_eq!(own(&streams[0]).iter().filter(|record| record.contains("unclean-restart")).count(), 1);
    assert!(own(&streams[1]).is_empty());
    assert_eq!(streams[0].kinds.last(), Some(&BatchKind::Close));
}

#[test]
fn records_left_unsealed_are_sealed_first_and_alone() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a", "b"], false).unwrap();
    drop(scribe);
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["c"], true).unwrap();
    let db = &scribe.desk.store.db;
    let counts: Vec<u32> =
        store::batches(db, scribe.line.ordinal, 0, usize::MAX).unwrap().iter().map(|batch| batch.header.count).collect();
    // "a" and "b"; then the gap with "c".
    assert_eq!(counts, [2, 2]);
}

#[test]
fn a_crash_while_a_stream_opens_leaves_one_or_the_other() {
    for step in STEPS {
        let mut rig = Rig::joined();
        let mut scribe = rig.open();
        rig.commit(&mut scribe, &["a"], true).unwrap();
        rig.commit(&mut scribe, &["b"], false).unwrap();
        scribe.desk.fault = Some(step);
        let plan = super::super::succession::Plan {
            cause: Cause::Rollback,
            predecessor: Some(scribe.predecessor()),
            dissolve: vec![(scribe.line.ordinal, 0)],
            missing: Vec::new(),
        };
        assert!(scribe.desk.succeed(plan, rig.now).is_err());
        drop(scribe);
        let scribe = rig.open();
        let streams = walk(&scribe);
        assert_eq!(observed(&streams), ["a", "b"], "{step:?}");
        let last = streams.last().unwrap().open.predecessor;
        if step == Step::AfterCommit {
            // The open without a slot is succeeded, not dropped.
            assert_eq!(last.map(|p| p.k), Some(edgetrail_proto::chain::Predecessor::NO_BATCH));
        }
    }
}

#[test]
fn an_unreadable_unsealed_chunk_becomes_a_gap_with_its_count() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], false).unwrap();
    rig.commit(&mut scribe, &["b", "c"], false).unwrap();
    rig.commit(&mut scribe, &["d"], false).unwrap();
    scribe.desk.store.db.execute("UPDATE body SET records = x'00' WHERE id = 2", []).unwrap();
    drop(scribe);
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["e"], true).unwrap();
    let streams = walk(&scribe);
    assert_eq!(observed(&streams), ["a", "d", "e"]);
    assert!(own(&streams[0])[0].contains(r#""cause":"buffer-damaged","count":2"#), "{:?}", own(&streams[0]));
}

#[test]
fn a_clock_that_went_back_between_two_runs_is_noted() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    scribe.close(rig.now).unwrap();
    drop(scribe);
    rig.now -= 3_600_000_000_000;
    let mut scribe = rig.open();
    rig.seal(&mut scribe).unwrap();
    let streams = walk(&scribe);
    let noted = own(&streams[1]);
    assert!(noted.len() == 1 && noted[0].contains(r#""cause":"clock-step","count":0,"#), "{noted:?}");
}
