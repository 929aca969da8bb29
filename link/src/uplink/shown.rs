//! What of a branch the collector was shown, so that each batch of it is sent once.
//!
//! Kept from session to session: a backlog of any length gets shown, a piece at a time. A new process begins anew; what
//! the collector has, it knows again by its hash.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use edgetrail_proto::chain::Hash;
use edgetrail_proto::identity::StreamId;

#[derive(Debug, Default)]
pub(super) struct Shown(Mutex<HashMap<StreamId, u64>>);

impl Shown {
    /// Of a stream's batches without a receipt, in order, those that are still to be shown.
    pub(super) fn rest(&self, stream: StreamId, unreceipted: &[(u64, Hash)]) -> Vec<u64> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&stream).copied();
        unreceipted.iter().map(|&(k, _)| k).filter(|&k| shown.is_none_or(|shown| k > shown)).collect()
    }

    pub(super) fn note(&self, stream: StreamId, k: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(stream, k);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_batch_is_shown_once() {
        let (shown, stream) = (Shown::default(), StreamId::from_bytes([1; 16]));
        let unreceipted = [3, 4, 5].map(|k| (k, Hash::ZERO));
        assert_eq!(shown.rest(stream, &unreceipted), [3, 4, 5]);
        shown.note(stream, 4);
        assert_eq!(shown.rest(stream, &unreceipted), [5]);
        assert_eq!(shown.rest(StreamId::from_bytes([2; 16]), &unreceipted), [3, 4, 5]);
    }
}
