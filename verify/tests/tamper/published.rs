//! Attacks on sealed logs that were published, against ours: each fails, and each fails by the check that is for it.
//!
//! Sources: F. Dörre and A. Ottenhues, "Security Analysis of Forward Secure Log Sealing in Journald", IACR ePrint 2023/867
//! (CVE-2023-31437 to 31439); E.-O. Blass and G. Noubir, "Secure Logging with Crash Tolerance", IACR ePrint 2017/107, and "Forward
//! Security with Crash Recovery for Secure Logs", ePrint 2019/506. The crash attack on a real buffer and key file stands in
//! `agent/src/buffer/tests/host_root.rs`; here is what its victim's trail looks like.

use edgetrail_proto::chain::{Hash, Ratchet, Seed, Writer};
use edgetrail_proto::identity::StreamId;
use edgetrail_verify::report::{Check, Report};

use super::trail::{Hooks, Trail, WINDOWS};
use super::{WHOLE, report_of};

/// What the host's root finds when it breaks in: the state behind batch `k` − 1 of stream 1, and all that follows from it.
pub(crate) fn stolen(k: u64) -> Ratchet {
    (0..k).fold(Ratchet::new(StreamId::from_bytes([1; 16]), 0, Seed([1; 32].into())), |ratchet, _| ratchet.next())
}

pub(crate) fn report_with(set: impl FnOnce(&mut Hooks)) -> Report {
    let mut hooks = Hooks::default();
    set(&mut hooks);
    report_of(&Trail::with(&hooks), WHOLE)
}

/// CVE-2023-31439: journald's verifier never asked whether a newer key seals only newer entries, so the key found at the
/// break-in sealed all history again. Here batch k's seal verifies under pk_k alone, which batch k − 1 names.
#[test]
fn the_current_key_does_not_seal_history_again() {
    for later in 3..8 {
        let report = report_with(|hooks| {
            hooks.sealed = Box::new(move |window, sealed| {
                if window == 2 {
                    sealed.header.root = Hash([9; 32]);
                    sealed.hash = sealed.header.hash();
                    sealed.seal = stolen(later).seal(&sealed.hash);
                }
            });
        });
        assert!(report.count(Check::StreamChain) > 0, "key {later}: {report}");
    }
}

/// The same, and consistently so: everything from batch 2 on is written anew, each batch naming the next one's key. The
/// first of them has nobody's seal.
#[test]
fn history_written_anew_from_a_batch_on_fails_at_that_batch() {
    for seed in [stolen(3).seed().clone(), Seed([0xaa; 32].into())] {
        let report = report_with(|hooks| {
            hooks.writer = Box::new(move |window, writer| {
                if window == 2 {
                    let forger = Ratchet::new(writer.stream(), writer.next_k(), seed.clone());
                    *writer = Writer::resume(writer.head(), writer.next_seq(), forger);
                }
            });
        });
        let broken = report.findings.iter().find(|finding| finding.check == Check::StreamChain).unwrap();
        assert!(broken.detail.contains("batch 2's seal"), "{broken:?}");
    }
}

/// CVE-2023-31438, first half: epochs without entries got no tag, so whole epochs could be cut out unseen. Here an idle
/// stream seals heartbeats, and the next batch names the one that was cut out.
#[test]
fn silent_epochs_can_not_be_cut_out() {
    for cut in 1..WINDOWS - 1 {
        let report = report_with(|hooks| {
            hooks.records = Box::new(|window, records| {
                if (1..4).contains(&window) {
                    records.clear();
                }
            });
            hooks.proof = Box::new(move |window, proof| {
                if window == cut {
                    proof.batches.clear();
                    proof.receipts.clear();
                }
            });
        });
        assert!(report.count(Check::StreamChain) > 0, "window {cut}: {report}");
    }
}

/// CVE-2023-31438, second half: one key could tag twice, so a truncated epoch was tagged again. Here the second batch of one
/// number is refused, whichever of the two came first.
#[test]
fn one_key_does_not_seal_twice() {
    let report = report_with(|hooks| {
        hooks.proof = Box::new(|window, proof| {
            if window == 2 {
                let mut again = proof.batches[0].clone();
                let mut header = edgetrail_proto::chain::Header::decode(&again.header.0).unwrap();
                header.root = Hash([9; 32]);
                again.header.0 = header.encode().to_vec();
                again.seal.0 = stolen(2).seal(&header.hash()).0.to_vec();
                proof.batches.push(again);
            }
        });
    });
    let broken = report.findings.iter().find(|finding| finding.check == Check::StreamChain).unwrap();
    assert!(broken.detail.contains("batch 2 came where batch 3 was due"), "{broken:?}");
}

/// CVE-2023-31437: index arrays that no seal covered hid entries from filtered output. Here the leaves of every batch are
/// under its seal: a record that is left out of the files is missed, and one that is put in has no place.
#[test]
fn nothing_is_hidden_from_what_is_shown() {
    for hidden in 0..3 {
        let report = report_with(|hooks| {
            hooks.log = Box::new(move |window, records| {
                if window == 2 {
                    records.remove(hidden);
                }
            });
        });
        assert_eq!(report.count(Check::RecordMissing), 1, "record {hidden}: {report}");
    }
}

/// The crash attack: after the break-in the tail is deleted and a power cut is staged; a ratchet alone can't tell the two
/// apart. Here what has a receipt is beyond reach, and what has none goes only with the stream: a successor begins, its
/// predecessor has no close, and it names what the key file knew.
#[test]
fn a_staged_crash_leaves_an_unclosed_stream_and_what_it_names() {
    let report = report_with(|hooks| {
        hooks.successor_in = Some(3);
        // The key file stood two batches further than what the collector got.
        hooks.predecessor = Box::new(|named| named.k += 2);
    });
    assert_eq!((report.count(Check::StreamUnclosed), report.count(Check::StreamTail)), (1, 1), "{report}");
}
