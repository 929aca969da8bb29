//! What of a stream is to be sent: from where, up to where, and whether its open goes first.

use std::collections::HashMap;

use edgetrail_proto::identity::StreamId;

use super::SessionError;
use crate::outbox::{CollectorPosition, HeldStream, Opening};

/// One stream that is to be sent.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) stream: StreamId,
    /// To be recorded first.
    pub(super) opening: Option<Opening>,
    pub(super) next_k: u64,
    /// The last k that the collector still takes.
    pub(super) bound: Option<u64>,
}

/// Where sending a stream begins. `None` where there is nothing of it that the collector takes, or lacks.
pub(super) fn course(held: HeldStream, positions: &HashMap<StreamId, CollectorPosition>) -> Result<Option<Course>, SessionError> {
    let stream = held.stream;
    let position = positions.get(&stream);
    let recorded = position.is_some_and(|position| position.recorded);
    let bound = position.and_then(|position| position.bound);
    if position.is_some_and(|position| position.superseded && position.bound.is_none()) {
        return Ok(None);
    }
    let head = position.and_then(|position| position.head).map(|(k, _)| k);
    let next_k = head.map_or(0, |k| k.saturating_add(1));
    let receipted = held.last_receipted.as_ref().map(|(header, ..)| header.k);
    if let Some(to) = receipted.filter(|&to| to >= next_k) {
        // The rows are gone, against a receipt. A stream that has nothing else has nothing to wait for.
        if held.unreceipted.is_empty() && held.closed {
            return Ok(None);
        }
        return Err(SessionError::CollectorLost { stream, from: next_k, to });
    }
    Ok(Some(Course { stream, opening: (!recorded).then_some(held.opening), next_k, bound }))
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
        HashMap::from([(stream, CollectorPosition { stream, recorded: true, head, bound, superseded })])
    }

    #[test]
    fn sending_goes_on_behind_the_collectors_head() {
        let next = |held, positions| course(held, &positions).unwrap().map(|course| (course.next_k, course.opening.is_some()));
        assert_eq!(next(held(None, &[0, 1], false), HashMap::new()), Some((0, true)), "not recorded: its open first");
        assert_eq!(next(held(None, &[0, 1], false), at(None, None, false)), Some((0, false)));
        assert_eq!(next(held(Some(3), &[4, 5], false), at(Some(4), None, false)), Some((5, false)), "a receipt was lost");
        assert_eq!(next(held(None, &[0], false), at(None, None, true)), None, "superseded: nothing is taken");
        assert_eq!(next(held(Some(3), &[4], false), at(Some(3), Some(4), true)), Some((4, false)));
        assert_eq!(next(held(Some(3), &[], true), HashMap::new()), None, "done with");
    }

    #[test]
    fn a_collector_behind_its_own_receipts_is_named() {
        let lost = course(held(Some(7), &[8], false), &at(Some(4), None, false));
        assert!(matches!(lost, Err(SessionError::CollectorLost { from: 5, to: 7, .. })));
        let lost = course(held(Some(7), &[], false), &HashMap::new());
        assert!(matches!(lost, Err(SessionError::CollectorLost { from: 0, to: 7, .. })));
    }
}
