//! Rows that no header vouches for yet: a bit that flips in one is found and said exactly, and capture goes on.

use super::*;

/// Commits that lie unsealed behind a sealed batch, and a stop without an order. The second covers seq 3 and 4.
fn left_unsealed() -> Rig {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["x", "y"], true).unwrap();
    rig.commit(&mut scribe, &["a"], false).unwrap();
    rig.commit(&mut scribe, &["b", "c"], false).unwrap();
    rig.commit(&mut scribe, &["d"], false).unwrap();
    drop(scribe);
    rig
}

fn change(rig: &Rig, sql: &str) {
    let db = rusqlite::Connection::open(rig.path().join(crate::buffer::BUFFER_FILE)).unwrap();
    assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
}

/// Opens it again, goes on for some commits; gives what is in the streams.
fn go_on(rig: &mut Rig) -> Vec<Walked> {
    let mut scribe = rig.open();
    // Numbers up to where a row may have been flipped to.
    for n in 0..12 {
        rig.commit(&mut scribe, &[&format!("n{n}")], n % 3 == 0).unwrap();
    }
    rig.seal(&mut scribe).unwrap();
    walk(&scribe)
}

fn gaps(streams: &[Walked]) -> Vec<String> {
    let damaged = |record: &String| record.contains(r#""cause":"buffer-damaged""#);
    streams.iter().flat_map(own).filter(damaged).collect()
}

fn is_exactly(gap: &str, count: u64, seqs: &str) -> bool {
    gap.contains(&format!(r#""count":{count},"#)) && gap.contains(r#""exact":true"#) && gap.contains(seqs)
}

#[test]
fn a_damaged_chunk_that_was_not_sealed_becomes_one_gap_with_its_exact_seqs() {
    let flips = [
        "UPDATE chunk SET first_seq = 1 WHERE first_seq = 3",
        "UPDATE chunk SET first_seq = 11 WHERE first_seq = 3",
        "UPDATE chunk SET first_seq = 67 WHERE first_seq = 3",
        "UPDATE chunk SET stream = 2 WHERE first_seq = 3",
        "UPDATE chunk SET count = 3 WHERE first_seq = 3",
        "UPDATE chunk SET bytes = bytes + 4096 WHERE first_seq = 3",
        "UPDATE chunk SET committed = committed + 1 WHERE first_seq = 3",
        "UPDATE chunk SET counters = zeroblob(40) WHERE first_seq = 3",
        "UPDATE chunk SET body = body + 1 WHERE first_seq = 3",
        "UPDATE chunk SET content = zeroblob(16) WHERE first_seq = 3",
        "UPDATE chunk SET sum = zeroblob(16) WHERE first_seq = 3",
        "UPDATE body SET records = x'00000001640000000163' WHERE id = (SELECT body FROM chunk WHERE first_seq = 3)",
        "DELETE FROM chunk WHERE first_seq = 3",
    ];
    for flip in flips {
        let mut rig = left_unsealed();
        change(&rig, flip);
        let streams = go_on(&mut rig);
        assert_eq!(&observed(&streams)[..4], ["x", "y", "a", "d"], "{flip}");
        assert_eq!(observed(&streams).len(), 4 + 12, "{flip}");
        let gaps = gaps(&streams);
        let [gap] = &gaps[..] else { panic!("{flip}: {gaps:?}") };
        assert!(is_exactly(gap, 2, "seq 3 to 4"), "{flip}: {gap}");
    }
}

#[test]
fn the_last_chunk_is_missed_too() {
    let mut rig = left_unsealed();
    change(&rig, "DELETE FROM chunk WHERE first_seq = 5");
    let streams = go_on(&mut rig);
    assert_eq!(&observed(&streams)[..5], ["x", "y", "a", "b", "c"]);
    let gaps = gaps(&streams);
    assert!(gaps.len() == 1 && is_exactly(&gaps[0], 1, "seq 5 to 5"), "{gaps:?}");
}

#[test]
fn a_damaged_chunk_that_moves_to_a_successor_is_counted_there() {
    let mut rig = left_unsealed();
    change(&rig, "UPDATE chunk SET first_seq = 67 WHERE first_seq = 3");
    std::fs::remove_file(rig.path().join(crate::buffer::KEY_FILE)).unwrap();
    let streams = go_on(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::BufferOrKeyLost]);
    assert_eq!(&observed(&streams)[..4], ["x", "y", "a", "d"]);
    let gaps = gaps(&streams);
    assert!(gaps.len() == 1 && is_exactly(&gaps[0], 2, "seq 3 to 4"), "{gaps:?}");
}

#[test]
fn a_state_row_that_is_damaged_hides_no_unclean_restart_and_is_reported() {
    let flips = [
        "UPDATE state SET running = 0",
        "UPDATE state SET current = 7",
        "UPDATE state SET tail = x'00000000000000010000000000000000000000000000000000000000000000000000000000000000'",
        "UPDATE state SET committed = committed + 1",
        "UPDATE state SET receipt = x'0100000000000000000000000000000000000000000000000000000000000000'",
        "UPDATE state SET reach = zeroblob(48)",
        "UPDATE state SET sum = zeroblob(16)",
    ];
    for flip in flips {
        let mut rig = left_unsealed();
        change(&rig, flip);
        let streams = go_on(&mut rig);
        assert_eq!(&observed(&streams)[..6], ["x", "y", "a", "b", "c", "d"], "{flip}");
        let own: Vec<String> = streams.iter().flat_map(own).collect();
        assert!(own.iter().any(|record| record.contains("unclean-restart")), "{flip}: {own:?}");
        assert!(own.iter().any(|record| record.contains("state row was damaged")), "{flip}: {own:?}");
    }
}

#[test]
fn a_damaged_cursor_is_none_and_is_reported_once() {
    let mut rig = left_unsealed();
    change(&rig, "UPDATE cursor SET value = x'65'");
    let scribe = rig.open();
    assert_eq!(cursor(&scribe), "");
    drop(scribe);
    let streams = go_on(&mut rig);
    let gaps = gaps(&streams);
    assert!(gaps.len() == 1 && gaps[0].contains("file (place)") && gaps[0].contains(r#""count":null"#), "{gaps:?}");
}

#[test]
fn a_buffer_of_a_former_schema_opens_and_loses_nothing() {
    let without_receipt_keys = "DROP TABLE receipt_key; PRAGMA user_version = 2;";
    let without_sums = "ALTER TABLE chunk DROP COLUMN content; ALTER TABLE chunk DROP COLUMN sum;
        ALTER TABLE cursor DROP COLUMN sum; ALTER TABLE state DROP COLUMN reach; ALTER TABLE state DROP COLUMN sum;
        DROP TABLE receipt_key; PRAGMA user_version = 1;";
    for former in [without_receipt_keys, without_sums] {
        let mut rig = left_unsealed();
        let db = rusqlite::Connection::open(rig.path().join(crate::buffer::BUFFER_FILE)).unwrap();
        db.execute_batch(former).unwrap();
        drop(db);
        let asked = super::super::status(rig.path());
        assert!(matches!(asked, Err(BufferError::Store(store::StoreError::NotMigrated))), "{asked:?}");
        let scribe = rig.open();
        assert_eq!(cursor(&scribe), "d");
        drop(scribe);
        let streams = go_on(&mut rig);
        assert_eq!(&observed(&streams)[..6], ["x", "y", "a", "b", "c", "d"]);
        assert!(gaps(&streams).is_empty());
        assert_eq!(causes(&streams), [Cause::Join]);
        assert!(super::super::check(rig.path()).unwrap().findings.is_empty());
    }
}
