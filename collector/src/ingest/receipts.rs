//! When a receipt is signed and sent.
//!
//! Receipts are cumulative, so one for the newest batch stands for all before it: at most one signature per stream and
//! second, unless somebody waits. Somebody waits where a push caller does, where the stream has closed, and where the
//! sender's window would stall.

use std::collections::HashMap;
use std::time::Duration;

use edgetrail_proto::identity::StreamId;
use tokio::time::Instant;

use super::WINDOW;
use crate::ledger::Committed;

/// Source: docs/protocol.md §9, at most one signature per stream and second.
const INTERVAL: Duration = Duration::from_secs(1);

/// Batches without a receipt before the sender's window would stall: half of it, so that sending never stops.
const UNRECEIPTED_MAX: usize = WINDOW / 2;

/// Why a receipt can't wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    None,
    /// A push caller waits, or nothing follows.
    Now,
}

/// What is committed and not yet acknowledged, by stream.
#[derive(Debug, Default)]
pub(super) struct Receipts(HashMap<StreamId, Stream>);

#[derive(Debug, Default)]
struct Stream {
    newest: Option<Committed>,
    unreceipted: usize,
    sent: Option<Instant>,
    now: bool,
}

impl Receipts {
    pub(super) fn committed(&mut self, committed: Committed, haste: Haste) {
        let stream = self.0.entry(committed.stream).or_default();
        if stream.newest.is_none_or(|newest| newest.k <= committed.k) {
            stream.newest = Some(committed);
        }
        stream.unreceipted += 1;
        stream.now |= haste == Haste::Now;
    }

    /// What is to be signed at `now`.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Committed> {
        let due = self.0.values_mut().filter(|stream| stream.is_due(now));
        due.filter_map(|stream| {
            stream.unreceipted = 0;
            stream.now = false;
            stream.sent = Some(now);
            stream.newest.take()
        })
        .collect()
    }

    /// When something becomes due that is not yet; `None` while everything has its receipt.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0
            .values()
            .filter(|stream| stream.newest.is_some())
            .filter_map(|stream| stream.sent)
            .map(|sent| sent + INTERVAL)
            .min()
    }

    /// Everything, for the end of a session.
    pub(super) fn all(&mut self) -> Vec<Committed> {
        self.0.values_mut().filter_map(|stream| stream.newest.take()).collect()
    }
}

impl Stream {
    fn is_due(&self, now: Instant) -> bool {
        let rested = self.sent.is_none_or(|sent| now.duration_since(sent) >= INTERVAL);
        self.newest.is_some() && (self.now || self.unreceipted >= UNRECEIPTED_MAX || rested)
    }
}

#[cfg(test)]
mod tests {
    use edgetrail_proto::chain::Hash;

    use super::*;

    fn committed(k: u64) -> Committed {
        Committed { stream: StreamId::from_bytes([1; 16]), k, hash: Hash::ZERO, index: k, t_received: 0 }
    }

    #[tokio::test]
    async fn one_receipt_a_second_unless_somebody_waits() {
        let (mut receipts, start) = (Receipts::default(), Instant::now());
        receipts.committed(committed(0), Haste::None);
        assert_eq!(receipts.due(start), [committed(0)], "the first at once");
        receipts.committed(committed(1), Haste::None);
        assert_eq!(receipts.due(start), []);
        assert_eq!(receipts.next_due(), Some(start + INTERVAL));
        receipts.committed(committed(2), Haste::None);
        assert_eq!(receipts.due(start + INTERVAL), [committed(2)], "one for both");
        assert_eq!(receipts.next_due(), None);
        receipts.committed(committed(3), Haste::Now);
        assert_eq!(receipts.due(start + INTERVAL), [committed(3)]);
        (0..UNRECEIPTED_MAX as u64).for_each(|k| receipts.committed(committed(4 + k), Haste::None));
        assert_eq!(receipts.due(start + INTERVAL).len(), 1, "before the window stalls");
    }
}
