//! A sender's store that lives in memory.

use std::sync::{Arc, Mutex};

use edgetrail_link::outbox::{CollectorPosition, HeldStream, Outbox, OutboxError, OutgoingBatch, OutgoingBody, Reconciled};
use edgetrail_proto::chain::{Hash, Header, Receipt, Seal};
use edgetrail_proto::identity::StreamId;
use tokio::sync::watch;

use super::rig::{TestStream, record};

/// Streams with their sealed batches; rows go against receipts, as in the agent's buffer.
pub(super) struct MemoryOutbox {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

struct State {
    streams: Vec<Stream>,
    forked: Vec<StreamId>,
    receipts: Vec<Receipt>,
}

struct Stream {
    stream: TestStream,
    /// Every head, for ever: by it a receipt is known as one's own.
    heads: Vec<Hash>,
    batches: Vec<OutgoingBatch>,
    last_receipted: Option<(Header, Seal, Receipt)>,
}

impl MemoryOutbox {
    pub(super) fn new(stream: TestStream) -> Arc<Self> {
        let outbox = Self {
            state: Mutex::new(State { streams: Vec::new(), forked: Vec::new(), receipts: Vec::new() }),
            changes: watch::Sender::new(0),
        };
        outbox.open(stream);
        Arc::new(outbox)
    }

    pub(super) fn open(&self, stream: TestStream) {
        let stream = Stream { stream, heads: Vec::new(), batches: Vec::new(), last_receipted: None };
        self.state.lock().unwrap().streams.push(stream);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Seals a batch of the current stream, of records with these names.
    pub(super) fn seal(&self, names: &[String]) {
        let mut state = self.state.lock().unwrap();
        let stream = state.streams.last_mut().unwrap();
        let records: Vec<String> = names.iter().map(|name| record(name)).collect();
        let (sealed, body) = stream.stream.seal(&records);
        stream.heads.push(sealed.hash);
        let (header, seal, body) = (sealed.header, sealed.seal, OutgoingBody::Plain(body));
        let batch = OutgoingBatch { header, seal, body, caller_waits: false, named_receipts: Vec::new() };
        stream.batches.push(batch);
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    pub(super) fn unreceipted(&self) -> usize {
        self.state.lock().unwrap().streams.iter().map(|stream| stream.batches.len()).sum()
    }

    pub(super) fn current(&self) -> TestStream {
        self.state.lock().unwrap().streams.last().unwrap().stream.clone()
    }

    pub(super) fn forks(&self) -> Vec<StreamId> {
        self.state.lock().unwrap().forked.clone()
    }

    pub(super) fn receipts(&self) -> Vec<Receipt> {
        self.state.lock().unwrap().receipts.clone()
    }
}

impl Outbox for MemoryOutbox {
    fn held(&self) -> Result<Vec<HeldStream>, OutboxError> {
        let state = self.state.lock().unwrap();
        let held = state.streams.iter().map(|stream| HeldStream {
            stream: stream.stream.open.stream,
            opening: stream.stream.opening.clone(),
            last_receipted: stream.last_receipted.clone(),
            unreceipted: stream.batches.iter().map(|batch| (batch.header.k, batch.header.hash())).collect(),
            closed: false,
        });
        Ok(held.collect())
    }

    fn batch(&self, stream: StreamId, k: u64) -> Result<Option<OutgoingBatch>, OutboxError> {
        let state = self.state.lock().unwrap();
        let stream = state.streams.iter().find(|held| held.stream.open.stream == stream);
        Ok(stream.and_then(|stream| stream.batches.iter().find(|batch| batch.header.k == k).cloned()))
    }

    fn store_receipt(&self, receipt: &Receipt) -> Result<(), OutboxError> {
        let mut state = self.state.lock().unwrap();
        let stream = state.streams.iter_mut().find(|held| held.stream.open.stream == receipt.stream);
        let own = stream.filter(|stream| usize::try_from(receipt.k).is_ok_and(|k| stream.heads.get(k) == Some(&receipt.head)));
        let stream = own.expect("a receipt for a head of one's own");
        if let Some(batch) = stream.batches.iter().find(|batch| batch.header.k == receipt.k) {
            stream.last_receipted = Some((batch.header.clone(), batch.seal, receipt.clone()));
        }
        stream.batches.retain(|batch| batch.header.k > receipt.k);
        state.receipts.push(receipt.clone());
        drop(state);
        Ok(())
    }

    fn reconcile(&self, _: Option<StreamId>, _: &[CollectorPosition]) -> Result<Reconciled, OutboxError> {
        Ok(Reconciled::Continue)
    }

    fn forked(&self, stream: StreamId) -> Result<Reconciled, OutboxError> {
        self.state.lock().unwrap().forked.push(stream);
        Ok(Reconciled::Continue)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
