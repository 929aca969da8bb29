//! Rows about a seized collector and about who operates the bucket.

use edgetrail_proto::chain::{Ratchet, Seed, Writer};
use edgetrail_proto::digest::Digest;
use edgetrail_verify::report::{Check, Verdict};

use super::super::published::report_with;
use super::super::trail::{Trail, WINDOW, WINDOWS, gzip, record, sign};
use super::super::{END, WHOLE, Window, lost_range, report_of};
use super::hosts::found;

pub(super) fn what_is_withheld_is_missed() {
    let report = report_of(&lost_range(None), WHOLE);
    assert_eq!(report.count(Check::RangeUnreported), 1, "{report}");
    found(
        |hooks| {
            hooks.proof = Box::new(|window, proof| {
                if window == 2 {
                    proof.ledger_from += 1;
                }
            });
        },
        &[Check::ProofWindow],
    );
}

pub(super) fn a_minted_stream_is_shown() {
    let report = report_with(|hooks| hooks.internal = Box::new(|window, own| own.extend((window == 3).then(|| record(3, 2)))));
    let minted = report.accounts.0.values().find(|account| account.host == "collector").unwrap();
    assert_eq!((minted.followed, minted.batches), (1, Some((0, 0))), "its open is in the proof, with who certified it");
}

pub(super) fn the_collector_seals_for_nobody() {
    found(
        |hooks| {
            hooks.writer = Box::new(|window, writer| {
                if window == 3 {
                    let guess = Ratchet::new(writer.stream(), writer.next_k(), Seed([0xfe; 32].into()));
                    *writer = Writer::resume(writer.head(), writer.next_seq(), guess);
                }
            });
        },
        &[Check::StreamChain],
    );
}

pub(super) fn the_collector_invents_no_record() {
    found(|hooks| hooks.log = Box::new(|window, log| log.extend((window == 2).then(|| record(2, 2)))), &[Check::RecordUnproven]);
    found(
        |hooks| {
            hooks.proof = Box::new(|window, proof| {
                if window == 2 {
                    proof.batches[0].leaves.as_mut().unwrap().0[..32].copy_from_slice(&[7; 32]);
                }
            });
        },
        &[Check::LeavesRoot, Check::RecordUnproven],
    );
}

/// Signed again with the key of its day, which a seized collector has until midnight: the next digest names the old one's hash.
/// After midnight the key is gone, and one of a later day was not valid then.
pub(super) fn a_window_that_is_out_stands() {
    let mut trail = Trail::whole();
    let key = trail.digests[2].clone();
    let (bytes, metadata) = trail.objects.get_mut(&key).unwrap();
    let json = edgetrail_verify::gzip::unpack(bytes).unwrap().bytes;
    let mut digest = Digest::from_json(&json).unwrap();
    digest.log_files.clear();
    let json = digest.to_json();
    metadata.insert("signature".to_owned(), sign(&digest, &json));
    *bytes = gzip(&json);
    let report = report_of(&trail, WHOLE);
    for check in [Check::PreviousHash, Check::PreviousSignature, Check::LogUnlisted, Check::RecordMissing] {
        assert!(report.count(check) > 0, "{check:?} is not in\n{report}");
    }
    let mut late = Trail::whole();
    late.keys.digest.values_mut().for_each(|key| key.not_before = END);
    assert!(report_of(&late, WHOLE).count(Check::DigestKeyNotValid) > 0);
}

/// The keys of a trail's objects of one kind.
type KeysOf = fn(&Trail) -> &Vec<String>;

pub(super) fn deleted_objects_are_named() {
    let kinds: [(KeysOf, Check); 3] =
        [(|t| &t.digests, Check::DigestMissing), (|t| &t.logs, Check::LogMissing), (|t| &t.proofs, Check::ProofMissing)];
    for (kind, check) in kinds {
        let mut trail = Trail::whole();
        let key = kind(&trail)[2].clone();
        trail.objects.remove(&key);
        let report = report_of(&trail, WHOLE);
        assert!(report.count(check) > 0 && !report.holds(Verdict::Completeness), "{check:?} is not in\n{report}");
    }
}

/// However much of the tail goes, with everything that could tell of it.
pub(super) fn a_deleted_tail_is_missed() {
    for kept in 0..WINDOWS {
        let mut trail = Trail::whole();
        for keys in [&trail.digests, &trail.logs, &trail.proofs] {
            keys.iter().skip(kept).for_each(|key| drop(trail.objects.remove(key)));
        }
        let report = report_of(&trail, WHOLE);
        let check = if kept == 0 { Check::NoDigests } else { Check::NewestStale };
        assert!(report.count(check) > 0 && !report.is_good(), "{kept} windows kept: {report}");
        // A living trail is judged by the clock.
        let now = Window { now: Some(END + 10 * WINDOW), ..Window::default() };
        assert!(!report_of(&trail, now).is_good());
    }
}
