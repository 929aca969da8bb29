//! Receipts, and what they release.

use edgetrail_link::outbox::Reconciled;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_proto::chain::{Cause, Receipt};
use edgetrail_proto::identity::StreamId;

use super::{Scribe, end_seq};
use crate::buffer::BufferError;
use crate::buffer::store::{self, StreamRow};
use crate::buffer::succession::Plan;

/// Batches that are released in one transaction: 64 MiB of bodies.
const RELEASE_BATCHES_MAX: u64 = 64;

impl Scribe {
    /// Stores a verified receipt and releases what it covers. One for a head that is not in this chain changes nothing.
    pub(in crate::buffer) fn receipt(&mut self, receipt: &Receipt) -> Result<bool, BufferError> {
        let db = &self.desk.store.db;
        let Some(stream) = store::stream(db, receipt.stream)? else { return Ok(false) };
        if stream.receipted.as_ref().is_some_and(|(header, ..)| header.k >= receipt.k) {
            return Ok(true);
        }
        // The evidence is kept for ever: where the row is damaged, the head's copy serves, or a later receipt's.
        let row = store::batch(db, stream.ordinal, receipt.k)?.map(|batch| (batch.header, batch.seal));
        let ours = [row, stream.head.clone()].into_iter().flatten().find(|(header, _)| header.hash() == receipt.head);
        let Some((header, seal)) = ours else { return Ok(false) };
        self.desk.begin()?;
        store::put_receipt(&self.desk.store.db, stream.ordinal, &header, &seal, receipt)?;
        self.desk.state.receipt = receipt.message_hash();
        store::put_state(&self.desk.store.db, &self.desk.state)?;
        self.desk.commit()?;
        let receipted = Some((header, seal, receipt.clone()));
        self.release(&StreamRow { receipted, ..stream })?;
        Ok(true)
    }

    /// Before a receipt of this key is stored: what shows the receipt later shows the statement with it.
    pub(in crate::buffer) fn keep_receipt_key(&mut self, key: &ReceiptKey) -> Result<(), BufferError> {
        self.desk.begin()?;
        store::put_receipt_key(&self.desk.store.db, key)?;
        self.desk.commit()
    }

    /// Remembers that a collector holds two branches. Nothing is opened until this agent has joined again: then it is the
    /// rightful one, and goes on in a stream of cause 4. Joined already, it goes on now.
    pub(in crate::buffer) fn forked(&mut self, stream: StreamId, now: u64) -> Result<Reconciled, BufferError> {
        let current = store::stream_at(&self.desk.store.db, self.line.ordinal)?;
        let rejoined = current.map(|row| self.desk.opener.joined_since(&row.opening)).transpose()?.unwrap_or(false);
        if rejoined {
            self.desk.state.forked = None;
            let predecessor = Some(self.predecessor());
            let plan = Plan { cause: Cause::Fork, predecessor, dissolve: Vec::new(), missing: Vec::new() };
            self.line.unsealed.clear();
            self.line = self.desk.succeed(plan, now)?;
            self.seal_backlog(now)?;
            return Ok(Reconciled::Successor);
        }
        self.desk.state.forked = Some(stream);
        self.desk.begin()?;
        store::put_state(&self.desk.store.db, &self.desk.state)?;
        self.desk.commit()?;
        Ok(Reconciled::Continue)
    }

    /// Forgets what a stream's receipt covers, a slice at a time: the receipt is stored, so a crash goes on here.
    pub(super) fn release(&mut self, stream: &StreamRow) -> Result<(), BufferError> {
        let Some((header, ..)) = &stream.receipted else { return Ok(()) };
        while let Some(first) = store::first_batch(&self.desk.store.db, stream.ordinal)?.filter(|&first| first <= header.k) {
            let last = (first + RELEASE_BATCHES_MAX - 1).min(header.k);
            // Of a damaged row's records the receipted header knows: then all go at once.
            let row = store::batch(&self.desk.store.db, stream.ordinal, last)?;
            let (last, end) = row.map_or((header.k, end_seq(header)), |batch| (last, end_seq(&batch.header)));
            self.desk.begin()?;
            store::delete_chunks(&self.desk.store.db, stream.ordinal, 0, end)?;
            store::delete_batches(&self.desk.store.db, stream.ordinal, 0, last + 1)?;
            self.desk.commit()?;
        }
        Ok(())
    }
}
