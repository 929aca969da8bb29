//! The table of docs/protocol.md §3.5, row by row, with real files.

use edgetrail_proto::chain::Predecessor;

use super::super::KEY_FILE;
use super::super::store::BUFFER_FILE;
use super::*;

/// Three sealed batches "a", "b", "c", and "d" unsealed; kept copies of both files after "a" was sealed.
struct Past {
    rig: Rig,
    buffer: Vec<(PathBuf, Option<Vec<u8>>)>,
    key: Vec<(PathBuf, Option<Vec<u8>>)>,
    head: Predecessor,
}

fn past() -> Past {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    drop(scribe);
    let (buffer, key) = (rig.keep(BUFFER_FILE), rig.keep(KEY_FILE));
    let (mut scribe, _) = Scribe::open(&rig.place, Opening::Again, rig.now).unwrap();
    rig.commit(&mut scribe, &["b"], true).unwrap();
    rig.commit(&mut scribe, &["c"], true).unwrap();
    rig.commit(&mut scribe, &["d"], false).unwrap();
    let head = scribe.predecessor();
    assert_eq!(head.k, 2);
    Past { rig, buffer, key, head }
}

fn reopened(rig: &mut Rig) -> Vec<Walked> {
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["z"], true).unwrap();
    walk(&scribe)
}

#[test]
fn level_files_go_on() {
    let Past { mut rig, .. } = past();
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join]);
    assert_eq!(observed(&streams), ["a", "b", "c", "d", "z"]);
}

#[test]
fn a_key_file_one_batch_behind_is_ratcheted() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    scribe.desk.fault = Some(Step::AfterCommit);
    assert!(rig.commit(&mut scribe, &["b"], true).is_err());
    drop(scribe);
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join]);
    assert_eq!(observed(&streams), ["a", "b", "z"]);
}

/// The database is one batch ahead of its key file, as after a crash between the two, but its head was not sealed by it.
#[test]
fn a_head_that_the_key_file_behind_it_did_not_seal_is_dissolved_and_its_records_move() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["a"], true).unwrap();
    scribe.desk.fault = Some(Step::AfterCommit);
    assert!(rig.commit(&mut scribe, &["b"], true).is_err());
    drop(scribe);
    let db = rusqlite::Connection::open(rig.path().join(BUFFER_FILE)).unwrap();
    let mut seal: Vec<u8> = db.query_row("SELECT seal FROM batch WHERE k = 1", [], |row| row.get(0)).unwrap();
    seal[7] ^= 1;
    db.execute("UPDATE batch SET seal = ?1 WHERE k = 1", [&seal]).unwrap();
    db.execute("UPDATE stream SET seal = ?1 WHERE seal IS NOT NULL", [&seal]).unwrap();
    drop(db);
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::BufferOrKeyLost]);
    assert_eq!(streams[0].records, ["a"]);
    assert_eq!(observed(&streams), ["a", "b", "z"]);
}

#[test]
fn a_rolled_back_database_is_succeeded_behind_the_key_files_head() {
    let Past { mut rig, buffer, head, .. } = past();
    rig.restore(buffer);
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::Rollback]);
    assert_eq!(streams[1].open.predecessor, Some(head));
    assert_eq!(observed(&streams), ["a", "z"]);
    assert!(own(&streams[1]).iter().any(|record| record.contains("buffer-rollback")));
}

#[test]
fn another_head_at_the_same_batch_is_a_rollback() {
    let Past { mut rig, buffer, head, key } = past();
    let newer_key = rig.keep(KEY_FILE);
    rig.restore(buffer);
    rig.restore(key);
    let (mut scribe, _) = Scribe::open(&rig.place, Opening::Again, rig.now).unwrap();
    rig.commit(&mut scribe, &["b2"], true).unwrap();
    rig.commit(&mut scribe, &["c2"], true).unwrap();
    drop(scribe);
    rig.restore(newer_key);
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::Rollback]);
    assert_eq!(streams[1].open.predecessor, Some(head));
    assert_eq!(observed(&streams), ["a", "b2", "c2", "z"]);
}

#[test]
fn an_old_key_file_is_a_lost_key() {
    let Past { mut rig, key, head, .. } = past();
    rig.restore(key);
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::BufferOrKeyLost]);
    assert_eq!(streams[1].open.predecessor, Some(head));
    // Sealed ones still go out under the old stream; the unsealed one moves, behind a report.
    assert_eq!(streams[0].records, ["a", "b", "c"]);
    assert!(streams[1].records[0].contains("ReportRehomed"));
    assert_eq!(streams[1].records[1], "d");
}

#[test]
fn an_absent_key_file_is_a_lost_key() {
    let Past { mut rig, head, .. } = past();
    std::fs::remove_file(rig.path().join(KEY_FILE)).unwrap();
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::BufferOrKeyLost]);
    assert_eq!(streams[1].open.predecessor, Some(head));
    assert_eq!(observed(&streams), ["a", "b", "c", "d", "z"]);
}

#[test]
fn a_lost_database_is_succeeded_behind_the_key_files_head() {
    let Past { mut rig, head, .. } = past();
    rig.restore(rig.keep(BUFFER_FILE).into_iter().map(|(path, _)| (path, None)).collect());
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::BufferOrKeyLost]);
    assert_eq!(streams[0].open.predecessor, Some(head));
}

#[test]
fn a_database_that_is_no_database_is_kept_aside_and_succeeded() {
    let Past { mut rig, head, .. } = past();
    rig.restore(rig.keep(BUFFER_FILE).into_iter().map(|(path, _)| (path, None)).collect());
    std::fs::write(rig.path().join(BUFFER_FILE), [0x5a; 20_000]).unwrap();
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::BufferOrKeyLost]);
    assert_eq!(streams[0].open.predecessor, Some(head));
    assert!(own(&streams[0]).iter().any(|record| record.contains("buffer-damaged")));
    let aside =
        std::fs::read_dir(rig.path()).unwrap().filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("damaged"));
    assert_eq!(aside.count(), 1);
}

#[test]
fn neither_file_but_an_identity_is_a_lost_buffer() {
    let mut rig = Rig::bare();
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::BufferOrKeyLost]);
    assert_eq!(streams[0].open.predecessor, None);
}

#[test]
fn a_first_start_after_join_has_no_predecessor() {
    let mut rig = Rig::joined();
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join]);
    assert_eq!(streams[0].open.predecessor, None);
}

#[test]
fn a_slot_of_a_stream_that_the_database_never_saw_is_a_rollback() {
    let Past { mut rig, buffer, .. } = past();
    let mut scribe = rig.open();
    scribe.close(rig.now).unwrap();
    drop(scribe);
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["later"], true).unwrap();
    let head = scribe.predecessor();
    drop(scribe);
    rig.restore(buffer);
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::Rollback]);
    assert_eq!(streams[1].open.predecessor, Some(head));
}

#[test]
fn a_new_binding_closes_the_stream_and_begins_another() {
    let Past { mut rig, .. } = past();
    rig.place.opener = Arc::new(opener(rig.path(), "web-2"));
    let streams = reopened(&mut rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::AfterClose]);
    assert_eq!(streams[0].kinds.last(), Some(&BatchKind::Close));
    assert_eq!(observed(&streams), ["a", "b", "c", "d", "z"]);
}
