//! What the host's root can do with the state that it finds at T, and what it can't: with the real buffer and key file.
//!
//! The verifier is the one that a collector and the auditor use. docs/protocol.md §3.4, §3.5.

use edgetrail_proto::chain::{Hash, Header, KEY_SLOT_BYTES, KeySlot, Ratchet, Seal};
use edgetrail_proto::merkle;

use super::super::KEY_FILE;
use super::super::store::BUFFER_FILE;
use super::*;

/// Three sealed batches; the seeds that the key file held before each; T is now.
struct BreakIn {
    rig: Rig,
    former_seeds: Vec<[u8; 32]>,
    /// What root finds: the state before batch 3.
    slot: KeySlot,
    open: Open,
    batches: Vec<(Header, Seal)>,
}

fn slot(rig: &Rig) -> KeySlot {
    let bytes = std::fs::read(rig.path().join(KEY_FILE)).unwrap();
    let slots = bytes.chunks(KEY_SLOT_BYTES).filter_map(KeySlot::decode);
    slots.max_by_key(|slot| slot.generation).unwrap()
}

fn break_in() -> BreakIn {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    let mut former_seeds = Vec::new();
    for record in ["a", "b", "c"] {
        former_seeds.push(*slot(&rig).seed.0);
        rig.commit(&mut scribe, &[record], true).unwrap();
    }
    let row = store::streams(&scribe.desk.store.db, STREAMS_READ_MAX).unwrap().remove(0);
    let batches = store::batches(&scribe.desk.store.db, row.ordinal, 0, usize::MAX).unwrap();
    let batches = batches.into_iter().map(|batch| (batch.header, batch.seal)).collect();
    drop(scribe);
    let slot = slot(&rig);
    assert_eq!(slot.next_k, 3);
    BreakIn { rig, former_seeds, slot, open: row.open, batches }
}

/// A verifier that has taken the first `count` batches.
fn verifier(break_in: &BreakIn, count: usize) -> Verifier {
    let mut verifier = Verifier::begin(&break_in.open);
    for (header, seal) in break_in.batches.iter().take(count) {
        verifier = Verifier::resume(verifier.check_header(header, seal).unwrap());
    }
    verifier
}

#[test]
fn no_file_holds_a_seed_of_what_was_sealed_before() {
    let BreakIn { rig, former_seeds, slot, .. } = break_in();
    let files: Vec<Vec<u8>> =
        std::fs::read_dir(rig.path()).unwrap().filter_map(|entry| std::fs::read(entry.unwrap().path()).ok()).collect();
    let held = |seed: &[u8]| files.iter().any(|file| file.windows(32).any(|window| window == seed));
    assert!(held(slot.seed.0.as_slice()), "the search finds the seed that is there");
    for (k, seed) in former_seeds.iter().enumerate() {
        assert!(!held(seed), "seed {k} is still in a file");
    }
}

/// Also the first attack on journald's sealing (ePrint 2023/867, CVE-2023-31439): the current key seals history again.
#[test]
fn a_batch_sealed_before_can_not_be_changed_or_put_in() {
    let taken = break_in();
    let mut ratchet = Ratchet::new(taken.slot.stream, 3, taken.slot.seed.clone());
    let leaves = [merkle::leaf_hash(b"root was never here")];
    for _key_to_come in 0..8 {
        for k in 0..3 {
            let verifier = verifier(&taken, k);
            let mut forged = taken.batches[k].0.clone();
            (forged.root, forged.count) = (merkle::root(&leaves), 1);
            forged.next_key = ratchet.next().public_key();
            let seal = ratchet.seal(&forged.hash());
            assert!(verifier.check_header(&forged, &seal).is_err(), "batch {k}");
            // Nor does the old seal hold for it.
            assert!(verifier.check_header(&forged, &taken.batches[k].1).is_err(), "batch {k}");
        }
        ratchet = ratchet.next();
    }
}

/// The crash attack (Blass and Noubir, ePrint 2017/107): the tail is deleted and a power cut staged. Root has three ways to
/// leave the key file, and each tells.
#[test]
fn a_tail_deleted_behind_a_staged_crash_is_told() {
    // As it is: it knows one batch more than the database.
    let mut taken = break_in();
    let head = taken.batches[2].0.hash();
    delete_last_batch(&taken.rig);
    let streams = reopened(&mut taken.rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::Rollback]);
    assert_eq!(streams[1].open.predecessor.map(|before| (before.k, before.hash)), Some((2, head)));
    assert!(own(&streams[1]).iter().any(|record| record.contains("buffer-rollback")));

    // Gone: the stream can't go on, a successor says so and the predecessor has no close.
    let mut taken = break_in();
    delete_last_batch(&taken.rig);
    std::fs::remove_file(taken.rig.path().join(KEY_FILE)).unwrap();
    let streams = reopened(&mut taken.rig);
    assert_eq!(causes(&streams), [Cause::Join, Cause::BufferOrKeyLost]);
    assert_ne!(streams[0].kinds.last(), Some(&BatchKind::Close));

    // Written to fit: but the seed of batch 2 is gone, so what the agent seals from here on nobody takes.
    let mut taken = break_in();
    delete_last_batch(&taken.rig);
    write_slot(&taken.rig, &KeySlot { next_k: 2, head: taken.batches[1].0.hash(), ..taken.slot.clone() });
    let mut scribe = taken.rig.open();
    taken.rig.commit(&mut scribe, &["z"], true).unwrap();
    let row = store::streams(&scribe.desk.store.db, STREAMS_READ_MAX).unwrap().remove(0);
    let sealed = store::batches(&scribe.desk.store.db, row.ordinal, 2, usize::MAX).unwrap();
    let by_thief = sealed.iter().find(|batch| batch.header.k == 2).unwrap();
    let taken_by_a_collector = verifier(&taken, 2).check_header(&by_thief.header, &by_thief.seal);
    assert!(taken_by_a_collector.is_err(), "a seal under another seed was taken");
}

/// It has the certificate's key too: an open of the same stream with keys of its own is another H_{-1}.
#[test]
fn a_stream_can_not_be_begun_again() {
    let taken = break_in();
    let mut again = taken.open.clone();
    let forger = Ratchet::new(taken.open.stream, 0, taken.slot.seed.clone());
    again.first_key = forger.public_key();
    let mut forged = taken.batches[0].0.clone();
    (forged.previous, forged.next_key) = (again.hash(), forger.next().public_key());
    let seal = forger.seal(&forged.hash());
    assert!(Verifier::begin(&again).check_header(&forged, &seal).is_ok(), "by itself it would hold");
    assert!(verifier(&taken, 0).check_header(&forged, &seal).is_err(), "behind the recorded open it does not");
}

/// What is committed but not sealed is root's to change, until the next seal: after a crash, until the restart. How long it lay
/// open stands in the header, and the crash in a gap.
#[test]
fn what_lay_unsealed_over_a_crash_says_so() {
    let mut rig = Rig::joined();
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["d"], false).unwrap();
    let committed = rig.now;
    drop(scribe);
    rig.now += 3_600_000_000_000;
    let scribe = rig.open();
    let row = store::streams(&scribe.desk.store.db, STREAMS_READ_MAX).unwrap().remove(0);
    let first = store::batches(&scribe.desk.store.db, row.ordinal, 0, usize::MAX).unwrap().remove(0).header;
    assert_eq!((first.count, first.t_min), (1, committed));
    assert!(first.t_sealed - first.t_min >= 3_600_000_000_000, "the hour is in the header");
}

fn reopened(rig: &mut Rig) -> Vec<Walked> {
    let mut scribe = rig.open();
    rig.commit(&mut scribe, &["z"], true).unwrap();
    walk(&scribe)
}

fn delete_last_batch(rig: &Rig) {
    let db = rusqlite::Connection::open(rig.path().join(BUFFER_FILE)).unwrap();
    db.execute_batch(
        "DELETE FROM batch WHERE k = 2; DELETE FROM chunk WHERE first_seq >= 2;
         UPDATE stream SET header = (SELECT header FROM batch WHERE k = 1), seal = (SELECT seal FROM batch WHERE k = 1);",
    )
    .unwrap();
}

fn write_slot(rig: &Rig, slot: &KeySlot) {
    let mut bytes = vec![0; 2 * KEY_SLOT_BYTES];
    bytes[..KEY_SLOT_BYTES].copy_from_slice(slot.encode().as_slice());
    std::fs::write(rig.path().join(KEY_FILE), bytes).unwrap();
    assert_ne!(slot.head, Hash::ZERO);
}
