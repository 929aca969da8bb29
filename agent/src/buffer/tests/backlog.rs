//! A backlog of any length moves in the memory of one batch.

use super::*;
use crate::buffer::store::ChunkRow;

/// The process's peak of resident memory since it was last reset, KiB.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_long_unsealed_backlog_moves_in_bounded_memory() {
    const CHUNKS: u64 = 120_000;
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    let db = &scribe.desk.store.db;
    db.execute_batch("BEGIN").unwrap();
    let mut body = Vec::new();
    edgetrail_link::body::frame(&mut body, b"x");
    for seq in 0..CHUNKS {
        let counters = Counters { observed: 1, ..Counters::default() };
        let content = store::Content::of(&addition::leaves(&body, 1).unwrap());
        let row = ChunkRow { first_seq: seq, count: 1, bytes: 1, committed: rig.now, counters, content, body: 0 };
        store::insert_chunk(db, scribe.line.ordinal, &row, &body).unwrap();
    }
    db.execute_batch("COMMIT").unwrap();
    scribe.desk.state.reach_on(CHUNKS, Counters { observed: CHUNKS, ..Counters::default() });
    // Resets the peak; where the kernel does not let it, the peak of before counts and the bound is as good.
    let _reset = std::fs::write("/proc/self/clear_refs", "5");
    let before = peak_kib();
    let plan = super::super::succession::Plan {
        cause: Cause::Rollback,
        predecessor: Some(scribe.predecessor()),
        dissolve: Vec::new(),
        missing: Vec::new(),
    };
    scribe.line = scribe.desk.succeed(plan, rig.now).unwrap();
    let grown = peak_kib().saturating_sub(before);
    let db = &scribe.desk.store.db;
    assert_eq!(store::depth(db).unwrap().0, CHUNKS + 1, "the records and the report before them");
    assert_eq!(store::chunks(db, scribe.line.ordinal, CHUNKS, u64::MAX, 1).unwrap().len(), 1);
    // All rows at once are some 12 MiB.
    if std::env::var_os("NEXTEST").is_some() {
        assert!(grown < 6 * 1024, "{grown} KiB for rows that need not lie in memory");
    }
}

#[test]
fn what_follows_a_damaged_chunk_of_a_backlog_moves_down_whole() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a", "b", "c"], false).unwrap();
    let names: Vec<String> = (0..600).map(|n| format!("n{n}")).collect();
    for name in &names {
        rig.commit(&mut scribe, &[name], false).unwrap();
    }
    scribe.desk.store.db.execute("UPDATE body SET records = x'00' WHERE id = 1", []).unwrap();
    drop(scribe);
    let mut scribe = rig.open();
    rig.seal(&mut scribe).unwrap();
    let streams = walk(&scribe);
    assert_eq!(observed(&streams), names);
    assert!(own(&streams[0])[0].contains(r#""cause":"buffer-damaged","count":3"#));
}

#[test]
fn each_damaged_batch_of_a_dissolved_run_is_a_hole_of_its_own() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    for record in ["a", "b", "c", "d", "e", "f"] {
        rig.commit(&mut scribe, &[record, "!"], true).unwrap();
    }
    let db = &scribe.desk.store.db;
    let ordinal = scribe.line.ordinal;
    // "b" is damaged; "d" and "e" are gone, one with its rows, one without its batch.
    let body = |seq: u64| store::chunks(db, ordinal, seq, seq + 1, 1).unwrap()[0].body;
    db.execute("UPDATE body SET records = x'0000000178' WHERE id = ?1", [body(2)]).unwrap();
    db.execute("DELETE FROM body WHERE id = ?1", [body(6)]).unwrap();
    store::delete_batches(db, ordinal, 4, 5).unwrap();
    let plan = super::super::succession::Plan {
        cause: Cause::BufferOrKeyLost,
        predecessor: Some(scribe.predecessor()),
        dissolve: vec![(ordinal, 1)],
        missing: Vec::new(),
    };
    scribe.line = scribe.desk.succeed(plan, rig.now).unwrap();
    scribe.seal_backlog(rig.now).unwrap();
    let streams = walk(&scribe);
    assert_eq!(observed(&streams), ["a", "!", "c", "!", "f", "!"]);
    let gaps = own(&streams[1]);
    assert!(gaps[0].contains("ReportRehomed") && gaps[0].contains(r#""records":4"#), "{gaps:?}");
    assert!(gaps[1].contains(r#""count":2"#) && gaps[1].contains("batch 1 of") && gaps[1].contains("seq 2 to 3"), "{gaps:?}");
    assert!(gaps[2].contains(r#""count":4"#) && gaps[2].contains("batches 3 to 4") && gaps[2].contains("seq 6 to 9"), "{gaps:?}");
    assert_eq!(gaps.len(), 3);
}
