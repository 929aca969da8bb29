//! What a damaged file that was put aside still holds comes back, once, and never more than is true.

use std::collections::BTreeMap;

use edgetrail_link::outbox::{CollectorPosition, Reconciled};
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::chain::{Predecessor, ReceiptSigner};

use super::super::repair::{Recipient, Repaired, Slice, repair, repair_into, take_in};
use super::super::writer::Limits;
use super::super::{BUFFER_FILE, export_file};
use super::*;

/// A buffer with four sealed batches and two unsealed records, damaged at the offsets given, and opened again: its
/// database is put aside.
fn put_aside(damage: impl FnOnce(&mut Vec<u8>)) -> (Rig, Scribe) {
    let (mut rig, mut scribe) = filled();
    rig.commit(&mut scribe, &["e", "f"], false).unwrap();
    damaged(rig, scribe, damage)
}

/// Four sealed batches.
fn filled() -> (Rig, Scribe) {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    for record in ["a", "b", "c", "d"] {
        // Longer than a page: its row goes on in others.
        let long = record.repeat(9000);
        rig.commit(&mut scribe, &[record, &long], true).unwrap();
    }
    (rig, scribe)
}

fn damaged(mut rig: Rig, scribe: Scribe, damage: impl FnOnce(&mut Vec<u8>)) -> (Rig, Scribe) {
    scribe.desk.store.fold_log().unwrap();
    drop(scribe);
    let path = rig.path().join(BUFFER_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..16].fill(0x55);
    damage(&mut bytes);
    std::fs::write(path, bytes).unwrap();
    let scribe = rig.open();
    (rig, scribe)
}

fn fix(rig: &Rig) -> Vec<Repaired> {
    let limits = Limits { min_free_bytes: 0, ..Limits::default() };
    repair(&Medium::real(), rig.path(), &limits).unwrap()
}

/// The records of the old stream, the sealed batches of it that are held, the records of all later ones.
fn names(records: &[String]) -> String {
    records.iter().filter(|record| !record.contains("agent.edgetrail")).map(|record| &record[..1]).collect()
}

/// As a collector that has recorded every open and holds batches of the oldest up to `head`.
fn resume(scribe: &mut Scribe, head: Option<u64>, now: u64) -> Reconciled {
    let db = &scribe.desk.store.db;
    let rows = store::streams(db, STREAMS_READ_MAX).unwrap();
    let oldest = &rows[0];
    let hash = |k| store::batch(db, oldest.ordinal, k).unwrap().map(|batch| (k, batch.hash));
    let bound = rows.iter().filter_map(|row| row.open.predecessor).find(|p| p.stream == oldest.open.stream).map(|p| p.k);
    let position = CollectorPosition {
        stream: oldest.open.stream,
        recorded: true,
        head: head.and_then(hash),
        bound: bound.filter(|&k| k != Predecessor::NO_BATCH),
        superseded: true,
        frozen: false,
        missing: Vec::new(),
    };
    let latest = rows.last().map(|row| row.open.stream);
    scribe.reconcile(latest, &[position], now).unwrap()
}

/// Offset of a text in the file.
fn place_of(bytes: &[u8], text: &[u8]) -> usize {
    bytes.windows(text.len()).position(|window| window == text).unwrap()
}

#[test]
fn sealed_batches_come_back_under_their_seals_and_unsealed_records_behind_a_report() {
    let (rig, scribe) = put_aside(|_| ());
    drop(scribe);
    let repaired = fix(&rig);
    assert_eq!(
        (repaired[0].streams, repaired[0].batches, repaired[0].records, repaired[0].unsealed),
        (1, 4, 8, 2),
        "{repaired:?}"
    );
    assert_eq!(repaired[0].findings, Vec::<String>::new());
    let kept = rig.path().join(repaired[0].kept_as.as_ref().unwrap());
    assert!(kept.exists() && kept.to_string_lossy().contains(".repaired-"));
    let mut rig = rig;
    let mut scribe = rig.open();
    let streams = walk(&scribe);
    assert_eq!((names(&streams[0].records).as_str(), streams[0].open.cause), ("aabbccdd", Cause::Join));
    assert_eq!(resume(&mut scribe, Some(1), rig.now), Reconciled::Successor);
    let streams = walk(&scribe);
    assert_eq!(names(&streams[0].records), "aabbccdd");
    let last = streams.last().unwrap();
    assert_eq!(names(&last.records), "ef");
    assert!(last.records[0].contains("ReportRehomed") && last.records[0].contains(r#""records":2"#), "{:?}", last.records[0]);
    assert_eq!(resume(&mut scribe, Some(1), rig.now), Reconciled::Continue);
    drop(scribe);
    assert!(fix(&rig).is_empty(), "nothing is brought back twice");
}

#[test]
fn a_receipt_comes_back_with_the_statement_on_its_key() {
    let (rig, mut scribe) = filled();
    let signer = ReceiptSigner::from_seed(&[9; 32]);
    let other = ReceiptSigner::from_seed(&[8; 32]).public_key();
    for public_key in [other, signer.public_key()] {
        let statement = ReceiptKey { public_key, not_before: 1, not_after: 9, ca_signature: vec![7; 70] };
        scribe.keep_receipt_key(&statement).unwrap();
    }
    let row = store::streams(&scribe.desk.store.db, 9).unwrap().remove(0);
    let sealed = store::batch(&scribe.desk.store.db, row.ordinal, 1).unwrap().unwrap();
    assert!(scribe.receipt(&signer.sign(row.open.stream, 1, sealed.hash, 1, 5)).unwrap());
    let (mut rig, scribe) = damaged(rig, scribe, |_| ());
    drop(scribe);
    assert_eq!((fix(&rig)[0].batches, fix(&rig).len()), (2, 0), "what the receipt covers is released");

    let scribe = rig.open();
    let kept = store::receipt_keys(&scribe.desk.store.db).unwrap();
    let kept: Vec<_> = kept.iter().map(|key| (key.public_key, key.not_before, key.not_after, &key.ca_signature[..])).collect();
    assert_eq!(kept, [(signer.public_key(), 1, 9, &[7; 70][..])]);
    assert_eq!(store::streams(&scribe.desk.store.db, 9).unwrap()[0].receipted.as_ref().unwrap().0.k, 1);
}

#[test]
fn a_hole_is_named_with_its_seqs_once_the_collector_was_asked() {
    let (rig, scribe) = put_aside(|bytes| {
        let at = place_of(bytes, &[b'b'; 64]);
        bytes[at] = b'x';
    });
    drop(scribe);
    let repaired = fix(&rig);
    assert_eq!((repaired[0].batches, repaired[0].records), (3, 6));
    assert!(repaired[0].findings[0].contains("batches 1 to 1 are missing"), "{repaired:?}");
    let mut rig = rig;
    let mut scribe = rig.open();
    let oldest = store::streams(&scribe.desk.store.db, 9).unwrap()[0].open.stream;
    // The sender comes to the hole, and resumes: of what lies behind, the collector holds nothing.
    scribe.damaged(oldest, 1).unwrap();
    assert_eq!(resume(&mut scribe, Some(0), rig.now), Reconciled::Successor);
    let streams = walk(&scribe);
    let last = streams.last().unwrap();
    assert_eq!((names(&streams[0].records).as_str(), names(&last.records).as_str()), ("aa", "ccddef"));
    let gap = last.records.iter().find(|record| record.contains("ReportGap")).unwrap();
    assert!(gap.contains(r#""count":2"#) && gap.contains("batch 1 of stream") && gap.contains("seq 2 to 3"), "{gap}");
}

#[test]
fn a_lost_end_is_named_too() {
    let (rig, scribe) = put_aside(|bytes| {
        for record in [b'c', b'd'] {
            let at = place_of(bytes, &[record; 64]);
            bytes[at] = b'x';
        }
    });
    drop(scribe);
    fix(&rig);
    let mut rig = rig;
    let mut scribe = rig.open();
    assert_eq!(resume(&mut scribe, Some(1), rig.now), Reconciled::Successor);
    let streams = walk(&scribe);
    let last = streams.last().unwrap();
    assert_eq!((names(&streams[0].records).as_str(), names(&last.records).as_str()), ("aabb", "ef"));
    let gap = last.records.iter().find(|record| record.contains("ReportGap")).unwrap();
    assert!(gap.contains(r#""count":4"#) && gap.contains("batches 2 to 3 of stream"), "{gap}");
}

/// A buffer whose repair dies at the n-th thing it asks.
struct Dying<'a> {
    scribe: &'a Scribe,
    left: usize,
}

impl Dying<'_> {
    fn live(&mut self) -> Result<(), BufferError> {
        self.left = self.left.checked_sub(1).ok_or(BufferError::Injected("in a repair"))?;
        Ok(())
    }
}

impl Recipient for Dying<'_> {
    fn begin(&mut self) -> Result<i64, BufferError> {
        self.live()?;
        Ok(store::begin_before(&self.scribe.desk.store.db)?)
    }

    fn take(&mut self, slice: Slice) -> Result<(), BufferError> {
        // A transaction for each batch, so that a repair can die between any two.
        for part in slice.split() {
            self.live()?;
            take_in(&self.scribe.desk.store, &part)?;
        }
        Ok(())
    }
}

#[test]
fn a_repair_that_dies_anywhere_is_done_by_the_next_one_without_loss_or_twice() {
    let mut deaths = 0;
    for left in 0..40 {
        let (mut rig, scribe) = put_aside(|_| ());
        let died = repair_into(&Medium::real(), rig.path(), &mut Dying { scribe: &scribe, left }).is_err();
        drop(scribe);
        if died {
            // The agent runs between, and seals.
            deaths += 1;
            let mut scribe = rig.open();
            rig.commit(&mut scribe, &["g"], true).unwrap();
            drop(scribe);
            fix(&rig);
        }
        let mut scribe = rig.open();
        resume(&mut scribe, None, rig.now);
        let mut times = BTreeMap::new();
        for record in names(&observed(&walk(&scribe))).chars() {
            *times.entry(record).or_insert(0) += 1;
        }
        let expected: BTreeMap<char, i32> =
            [('a', 2), ('b', 2), ('c', 2), ('d', 2), ('e', 1), ('f', 1)].into_iter().chain(died.then_some(('g', 1))).collect();
        assert_eq!(times, expected, "after {left} steps");
        if !died {
            break;
        }
    }
    assert!(deaths >= 5, "{deaths} places");
}

#[test]
fn an_export_reads_a_damaged_file_directly() {
    let (rig, scribe) = put_aside(|_| ());
    drop(scribe);
    let path = std::fs::read_dir(rig.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().contains(".damaged-"))
        .unwrap();
    let mut out = Vec::new();
    assert_eq!(export_file(&path, &mut out).unwrap(), (10, 0));
    assert!(String::from_utf8(out).unwrap().contains(r#""state":"unsealed","text":"f""#));
}

#[test]
fn a_running_agent_is_not_repaired_from_outside() {
    let (rig, _scribe) = put_aside(|_| ());
    let refused = repair(&Medium::real(), rig.path(), &Limits::default());
    assert!(matches!(refused, Err(BufferError::Running)), "{refused:?}");
}
