//! What of a stream is to be sent: from where, up to where, and whether its open goes first.

use std::collections::HashMap;

use edgetrail_proto::chain::{Header, Receipt, Seal};
use edgetrail_proto::identity::StreamId;

use crate::outbox::{CollectorPosition, HeldStream, Opening};

/// One stream that is to be sent.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) stream: StreamId,
    /// To be recorded first.
    pub(super) opening: Option<Opening>,
    /// Shown next: the collector lacks batches for which another one, or itself before a restore, gave a receipt.
    pub(super) take_up: Option<Box<(Header, Seal, Receipt)>>,
    pub(super) next_k: u64,
    /// The last k that the collector still takes.
    pub(super) bound: Option<u64>,
    /// First and last of each range that it lacks below its head. Sent first.
    pub(super) missing: Vec<(u64, u64)>,
}

/// Where an agent's sending of a stream begins. `None` where there is nothing of it that the collector takes, or lacks.
pub(super) fn course(held: HeldStream, positions: &HashMap<StreamId, CollectorPosition>) -> Option<Course> {
    let stream = held.stream;
    let position = positions.get(&stream);
    let recorded = position.is_some_and(|position| position.recorded);
    let bound = position.and_then(|position| position.bound);
    let head = position.and_then(|position| position.head).map(|(k, _)| k);
    let next_k = head.map_or(0, |k| k.saturating_add(1));
    let opening = (!recorded).then_some(held.opening);
    let missing = Vec::new();
    if let Some(evidence) = held.last_receipted.filter(|(header, ..)| header.k >= next_k) {
        // The rows are gone, against a receipt: whoever gave it is asked, through this collector, for what it holds.
        let next_k = evidence.0.k.saturating_add(1);
        return Some(Course { stream, opening, take_up: Some(Box::new(evidence)), next_k, bound, missing });
    }
    if position.is_some_and(|position| position.superseded && position.bound.is_none()) {
        return None;
    }
    Some(Course { stream, opening, take_up: None, next_k, bound, missing })
}

/// The same for a relay: it holds the only copy, so no bound stops it, and what the collector lacks below is sent too.
/// What it lacks itself comes to light on the way.
pub(super) fn relayed_course(held: HeldStream, position: Option<&CollectorPosition>, next_k: u64) -> Option<Course> {
    let (stream, take_up, bound) = (held.stream, None, None);
    let Some(position) = position.filter(|position| position.recorded) else {
        return Some(Course { stream, opening: Some(held.opening), take_up, next_k: 0, bound, missing: Vec::new() });
    };
    let course = Course { stream, opening: None, take_up, next_k, bound, missing: position.missing.clone() };
    (!position.frozen).then_some(course)
}

#[cfg(test)]
mod tests {
    use edgetrail_proto::chain::{BatchKind, Counters, Hash, Header, PublicKey, ReceiptSigner, Seal};

    use super::*;

    fn held(receipted: Option<u64>, unreceipted: &[u64], closed: bool) -> HeldStream {
        let stream = StreamId::from_bytes([1; 16]);
        let (open, binding, signature) = (Vec::new(), Vec::new(), Vec::new());
        HeldStream {
            stream,
            opening: Opening { open, binding, signature, certificate_chain: Vec::new() },
            last_receipted: receipted.map(|k| {
                let header = Header {
                    stream,
                    k,
                    kind: BatchKind::Heartbeat,
                    first_seq: 0,
                    count: 0,
                    root: Hash::ZERO,
                    previous: Hash::ZERO,
                    next_key: PublicKey([0; 32]),
                    boot_id: [0; 16],
                    t_sealed: 0,
                    t_min: 0,
                    t_max: 0,
                    counters: Counters::default(),
                    last_receipt: Hash::ZERO,
                };
                let receipt = ReceiptSigner::from_seed(&[1; 32]).sign(stream, k, header.hash(), 0, 0);
                (header, Seal([0; 64]), receipt)
            }),
            unreceipted: unreceipted.iter().map(|k| (*k, Hash::ZERO)).collect(),
            closed,
        }
    }

    fn at(head: Option<u64>, bound: Option<u64>, superseded: bool) -> HashMap<StreamId, CollectorPosition> {
        let stream = StreamId::from_bytes([1; 16]);
        let head = head.map(|k| (k, Hash::ZERO));
        HashMap::from([(
            stream,
            CollectorPosition { stream, recorded: true, head, bound, superseded, frozen: false, missing: Vec::new() },
        )])
    }

    #[test]
    fn sending_goes_on_behind_the_collectors_head() {
        let next = |held, positions| course(held, &positions).map(|course| (course.next_k, course.opening.is_some()));
        assert_eq!(next(held(None, &[0, 1], false), HashMap::new()), Some((0, true)), "not recorded: its open first");
        assert_eq!(next(held(None, &[0, 1], false), at(None, None, false)), Some((0, false)));
        assert_eq!(next(held(Some(3), &[4, 5], false), at(Some(4), None, false)), Some((5, false)), "a receipt was lost");
        assert_eq!(next(held(None, &[0], false), at(None, None, true)), None, "superseded: nothing is taken");
        assert_eq!(next(held(Some(3), &[4], false), at(Some(3), Some(4), true)), Some((4, false)));
        assert_eq!(next(held(Some(3), &[], true), at(Some(3), None, false)), Some((4, false)), "done with");
    }

    #[test]
    fn no_bound_stops_a_relay_and_a_freeze_does() {
        let stream = StreamId::from_bytes([1; 16]);
        let mut position = at(Some(4), Some(4), true).remove(&stream).unwrap();
        position.missing = vec![(1, 2)];
        let course = relayed_course(held(None, &[], false), Some(&position), 5).unwrap();
        assert_eq!((course.next_k, course.bound, course.missing, course.opening.is_some()), (5, None, vec![(1, 2)], false));
        let unrecorded = relayed_course(held(Some(3), &[], false), None, 0).unwrap();
        assert!(unrecorded.take_up.is_none() && unrecorded.opening.is_some());
        position.frozen = true;
        assert!(relayed_course(held(None, &[], false), Some(&position), 5).is_none());
    }

    #[test]
    fn a_collector_that_lacks_what_has_a_receipt_is_shown_the_receipt() {
        for (held, positions) in [
            (held(Some(7), &[8], false), at(Some(4), None, false)),
            (held(Some(7), &[], true), HashMap::new()),
            (held(Some(7), &[8], false), at(None, None, true)),
        ] {
            let course = course(held, &positions).unwrap();
            assert_eq!((course.take_up.unwrap().0.k, course.next_k), (7, 8));
        }
    }
}
