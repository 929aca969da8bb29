//! Rows about a host, its user and its root, and about the network before it, as a delivered trail shows them.

use std::cell::Cell;
use std::rc::Rc;

use edgetrail_proto::chain::{Hash, Ratchet, Receipt, Writer};
use edgetrail_proto::record::GapCause;
use edgetrail_verify::report::{Check, Verdict};

use super::super::published::{report_with, stolen};
use super::super::trail::{Hooks, WINDOW, record};

/// The report of a trail names these, and the verdict that they speak against fails.
pub(super) fn found(set: impl FnOnce(&mut Hooks), checks: &[Check]) {
    let report = report_with(set);
    for check in checks {
        assert!(report.count(*check) > 0, "{check:?} is not in\n{report}");
        assert!(!report.holds(check.verdict()));
    }
}

pub(super) fn own_report(name: &'static str, parameters: impl Into<String>) -> impl Fn(usize, &mut Vec<Vec<u8>>) {
    let parameters = parameters.into();
    move |window, records| {
        if window == 2 {
            let own = String::from_utf8(record(2, 3)).unwrap();
            let own = own.replace("shop.example", "agent.edgetrail").replace("RefundOrder", name);
            records.push(own.replace(r#"{"n":3}"#, &parameters).replace("12:02:13", "12:02:12").into_bytes());
        }
    }
}

pub(super) fn a_flood_is_a_gap() {
    let cause = GapCause::KernelLoss.as_str();
    let parameters = format!(
        r#"{{"cause":"{cause}","count":512,"exact":true,"evidence":"serials","from":"2026-01-15T12:02:01Z","to":"2026-01-15T12:02:09Z"}}"#
    );
    let report = report_with(|h| h.records = Box::new(own_report("ReportGap", parameters)));
    assert_eq!(report.count(Check::Gap), 1, "{report}");
    assert!(!report.holds(Verdict::Completeness) && report.holds(Verdict::Integrity));
    let hour = report.accounts.hosts().into_values().next().unwrap().hours.into_values().next().unwrap();
    assert_eq!((hour.gaps[cause].count, hour.gaps[cause].unbounded), (512, false));
}

fn silent_from(window_from: usize) -> impl FnOnce(&mut Hooks) {
    move |hooks: &mut Hooks| {
        hooks.proof = Box::new(move |window, proof| {
            if window >= window_from {
                proof.batches.clear();
                proof.receipts.clear();
            }
        });
        hooks.log = Box::new(move |window, log| {
            if window >= window_from {
                log.clear();
            }
        });
    }
}

pub(super) fn a_stopped_capture_is_silence() {
    found(silent_from(3), &[Check::HeadStale]);
}

pub(super) fn a_cut_is_silence() {
    found(silent_from(2), &[Check::HeadStale]);
}

/// Said openly: from T on the host is its root's.
pub(super) fn invented_events_pass() {
    let report = report_with(|hooks| {
        hooks.writer = Box::new(|window, writer| {
            if window == 3 {
                assert_eq!(writer.ratchet().public_key(), stolen(3).public_key(), "what root finds is the agent's own state");
            }
        });
        hooks.records = Box::new(|window, records| {
            if window == 3 {
                records.push(record(3, 2));
            }
        });
    });
    assert!(report.is_good(), "{report}");
}

pub(super) fn an_hour_unsealed_is_named() {
    let report = report_with(|h| {
        h.seal = Box::new(|window, input| {
            if window == 2 {
                input.t_min -= 3_600_000_000_000;
            }
        });
    });
    assert_eq!(report.count(Check::SealLate), 1, "{report}");
}

pub(super) fn a_second_sealing_is_told() {
    let parameters = r#"{"stream":"01010101-0101-0101-0101-010101010101","fromBatch":3,"toBatch":4,"records":2}"#;
    let report = report_with(|hooks| {
        hooks.successor_in = Some(2);
        hooks.predecessor = Box::new(|named| named.k += 3);
        hooks.records = Box::new(own_report("ReportRehomed", parameters));
    });
    for check in [Check::Rehomed, Check::StreamTail, Check::StreamUnclosed] {
        assert_eq!(report.count(check), 1, "{check:?}: {report}");
    }
    let hosts = report.accounts.hosts();
    let rehomed: u64 = hosts.values().flat_map(|host| host.hours.values()).map(|hour| hour.rehomed).sum();
    assert_eq!(rehomed, 2);
}

pub(super) fn a_batch_sealed_before_stands() {
    found(
        |hooks| {
            hooks.sealed = Box::new(|window, sealed| {
                if window == 1 {
                    sealed.header.root = Hash([9; 32]);
                    sealed.hash = sealed.header.hash();
                    sealed.seal = stolen(4).seal(&sealed.hash);
                }
            });
        },
        &[Check::StreamChain],
    );
}

/// Batches 2 and 3 are cut off, and the next one is numbered as if they had not been.
pub(super) fn a_cut_stream_does_not_go_on() {
    found(
        |hooks| {
            hooks.writer = Box::new(|window, writer| {
                if window == 3 {
                    let thief = Ratchet::new(writer.stream(), 2, stolen(3).seed().clone());
                    *writer = Writer::resume(writer.head(), 6, thief);
                }
            });
        },
        &[Check::StreamChain],
    );
}

/// The receipt that batch 4 names was given in window 3; it dates itself into window 1.
pub(super) fn back_dating_is_found() {
    let report = report_with(|hooks| names_the_receipt_of_window_3(hooks, 3 * WINDOW));
    assert_eq!(report.count(Check::SealTime), 1, "{report}");
    assert!(!report.is_good() && report.holds(Verdict::Integrity));
    // Dated as it should be, the same receipt is no finding.
    let honest = report_with(|hooks| names_the_receipt_of_window_3(hooks, 0));
    assert!(honest.is_good(), "{honest}");
}

fn names_the_receipt_of_window_3(hooks: &mut Hooks, back: u64) {
    let given = Rc::new(Cell::new(Hash::ZERO));
    let named = Rc::clone(&given);
    hooks.proof = Box::new(move |window, proof| {
        if window == 3 {
            given.set(Receipt::decode(&proof.receipts[0].0).unwrap().message_hash());
        }
    });
    hooks.seal = Box::new(move |window, input| {
        if window == 4 {
            input.last_receipt = named.get();
            input.t_sealed -= back;
        }
    });
}

pub(super) fn an_invented_receipt_is_found() {
    found(
        |hooks| {
            hooks.seal = Box::new(|window, input| {
                if window == 4 {
                    input.last_receipt = Hash([0x5a; 32]);
                }
            });
        },
        &[Check::ReceiptUnknown],
    );
}
