//! Receipts: that every stream has one for its last batch, and that those which headers name were given.
//!
//! A header names the last receipt that its agent had verified, of whichever of its streams, in whichever account and
//! region: what one of them does not know, another may. So what was missed is judged when all were read.

use std::collections::{BTreeMap, HashMap};

use edgetrail_proto::chain::{Hash, Receipt};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::proof::Proof;

use crate::receipt_keys::ReceiptKeys;
use crate::report::{Check, FINDINGS_MAX, Report};
use crate::store::Place;

/// What the collector may have given a receipt for, and what headers name besides.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    /// t_received by the hash of the message.
    known: HashMap<Hash, u64>,
    missed: Vec<Missed>,
}

#[derive(Debug)]
struct Missed {
    stream: StreamId,
    k: u64,
    message: Hash,
    place: String,
}

/// A stream's last batch in a window: k, H_k, ledger_index, t_received.
pub(crate) type Last = (u64, Hash, u64, u64);

impl Receipts {
    pub(crate) fn know(&mut self, message: Hash, t_received: u64) {
        self.known.insert(message, t_received);
    }

    pub(crate) fn received(&self, message: &Hash) -> Option<u64> {
        self.known.get(message).copied()
    }

    /// A header names a receipt that is not known here. The first ones are kept; no more are needed.
    pub(crate) fn miss(&mut self, stream: StreamId, k: u64, message: Hash, at: &str) {
        if self.missed.len() < FINDINGS_MAX {
            self.missed.push(Missed { stream, k, message, place: at.to_owned() });
        }
    }

    /// What no account and region knows.
    pub(crate) fn judge(&self, report: &mut Report) {
        for Missed { stream, k, message, place } in self.missed.iter().filter(|missed| !self.known.contains_key(&missed.message))
        {
            let detail = format_args!("batch {k} of stream {stream} names the receipt with hash {message}");
            report.find_in(*stream, Check::ReceiptUnknown, place, detail);
        }
    }

    /// Those that a proof holds, a relay's too: a header may name any of them.
    pub(crate) fn learn(&mut self, proof: &Proof, keys: &ReceiptKeys) {
        for receipt in proof.receipts.iter().filter_map(|bytes| Receipt::decode(&bytes.0).ok()) {
            if keys.vouch_for(&receipt) {
                self.know(receipt.message_hash(), receipt.t_received);
            }
        }
    }
}

/// Every stream's last batch of the window has a receipt that verifies and says what the proof says; every other receipt
/// verifies, and speaks of no batch otherwise than it was committed.
pub(crate) fn check(
    place: &Place,
    proof: &Proof,
    keys: &ReceiptKeys,
    last_of_window: &BTreeMap<StreamId, Last>,
    report: &mut Report,
) {
    let mut covered: BTreeMap<StreamId, Vec<Last>> = BTreeMap::new();
    for bytes in &proof.receipts {
        let receipt = match Receipt::decode(&bytes.0) {
            Ok(receipt) => receipt,
            Err(error) => {
                report.find(Check::ReceiptInvalid, place, error);
                continue;
            }
        };
        if !keys.vouch_for(&receipt) {
            let detail = format_args!(
                "no key that a root vouches for at its time made it: batch {} of stream {}",
                receipt.k, receipt.stream
            );
            report.find_in(receipt.stream, Check::ReceiptInvalid, place, detail);
            continue;
        }
        let says = (receipt.k, receipt.head, receipt.ledger_index, receipt.t_received);
        covered.entry(receipt.stream).or_default().push(says);
    }
    for (stream, last) in last_of_window {
        match covered.get(stream) {
            None => {
                report.find_in(*stream, Check::ReceiptMissing, place, format_args!("stream {stream}, batch {}", last.0));
            }
            Some(all) if !all.contains(last) => {
                let detail = format_args!("stream {stream}: none is for batch {} as committed", last.0);
                report.find_in(*stream, Check::ReceiptInvalid, place, detail);
            }
            Some(_) => {}
        }
    }
}
