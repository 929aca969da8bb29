//! What a sender of batches must be able to say of its store: the agent's buffer, or what a relay keeps of one agent.
//!
//! The uplink never touches the store otherwise. All calls may block on disk; the uplink makes them off the runtime.

use bytes::Bytes;
use edgetrail_proto::chain::{Hash, Header, Receipt, Seal};
use edgetrail_proto::identity::{AgentId, StreamId};

use crate::body::Encoding;
use crate::receipt_keys::ReceiptKey;

/// A stream's open with all that proves it, as it was recorded when the stream began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The encoded open.
    pub open: Vec<u8>,
    pub binding: Vec<u8>,
    /// ECDSA P-256 SHA-256 (ASN.1) by the leaf certificate's key over `open`.
    pub signature: Vec<u8>,
    /// Leaf first, DER.
    pub certificate_chain: Vec<Vec<u8>>,
}

/// One stream that the sender holds, for the resume.
#[derive(Clone, Debug)]
pub struct HeldStream {
    pub stream: StreamId,
    pub opening: Opening,
    /// Kept for ever: the take-up evidence.
    pub last_receipted: Option<(Header, Seal, Receipt)>,
    /// Every sealed batch without a receipt, in order.
    pub unreceipted: Vec<(u64, Hash)>,
    pub closed: bool,
}

/// A sealed batch, ready to send.
#[derive(Clone, Debug)]
pub struct OutgoingBatch {
    pub header: Header,
    pub seal: Seal,
    pub body: OutgoingBody,
    /// A push caller waits for the receipt.
    pub caller_waits: bool,
    /// Encoded receipts of other collectors than the one it is sent to, which the header names; a relay's alone.
    pub named_receipts: Vec<Bytes>,
}

/// A batch's records, framed as [`crate::body`] says.
#[derive(Clone, Debug)]
pub enum OutgoingBody {
    /// Not compressed; re-hashed against the header when it was read.
    Plain(Vec<u8>),
    /// As it was received, by whoever has verified it then. `bytes`: its length when decoded.
    Encoded { encoding: Encoding, body: Bytes, bytes: u32 },
}

impl OutgoingBody {
    /// The framed records, where they are not compressed.
    pub fn plain(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(body) => Some(body),
            Self::Encoded { .. } => None,
        }
    }
}

/// Where a stream goes on behind a hole in what the sender holds.
#[derive(Clone, Debug)]
pub struct Run {
    /// The next batch that is held, if there is one.
    pub first: Option<u64>,
    /// A receipt for a batch in the hole: what the collector is shown.
    pub evidence: Box<(Header, Seal, Receipt)>,
}

/// Something of a fork that a relay holds: home keeps it as evidence.
#[derive(Clone, Debug)]
pub struct Branch {
    pub stream: StreamId,
    /// Of the header or open.
    pub hash: Hash,
    pub act: BranchAct,
    /// The relay has refused it, and frozen its agent for it. Home may not see by itself why: that a party was told to be
    /// behind, nobody knows but whoever told it.
    pub refused: bool,
}

/// What a party to a fork did.
#[derive(Clone, Debug)]
pub enum BranchAct {
    Opened(Opening),
    Sealed(Box<OutgoingBatch>),
    /// It showed a collector's receipt for a batch; the batch itself never came.
    Showed(Box<(Header, Seal, Receipt)>),
}

/// What the collector said of a stream on resuming; drives rollback detection in the store.
#[derive(Clone, Debug)]
pub struct CollectorPosition {
    pub stream: StreamId,
    pub recorded: bool,
    pub head: Option<(u64, Hash)>,
    pub bound: Option<u64>,
    pub superseded: bool,
    /// Nothing of the stream is taken any more: its agent's streams forked.
    pub frozen: bool,
    /// First and last of each range at or below the head that the collector does not hold.
    pub missing: Vec<(u64, u64)>,
}

/// What the store did with the collector's positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// The chain contains the collector's head: go on sending.
    Continue,
    /// A successor stream was opened (rollback, or restored behind a later stream): resume again.
    Successor,
}

#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// A stored batch no longer hashes to its root: the store reports the hole and rehomes; resume again.
    #[error("batch {k} of stream {stream} is damaged in the buffer")]
    Damaged { stream: StreamId, k: u64 },
    /// A stream came that was not named when this session began: resume again.
    #[error("the buffer took an earlier stream in again")]
    Changed,
    #[error("the buffer can't be read or written")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The sender's store.
pub trait Outbox: Send + Sync + 'static {
    /// All streams, oldest first; the last is the current one.
    fn held(&self) -> Result<Vec<HeldStream>, OutboxError>;

    /// The batch k of a stream if it is sealed and its key file entry is durable (docs/protocol.md §3.5), else `None`.
    fn batch(&self, stream: StreamId, k: u64) -> Result<Option<OutgoingBatch>, OutboxError>;

    /// Stores a receipt that the uplink has verified, before it is used; then releases the batches it covers.
    /// A receipt whose head is not in the sender's own chain is refused and changes nothing.
    fn store_receipt(&self, receipt: &Receipt) -> Result<(), OutboxError>;

    /// Keeps the CA's statement on a key that this collector signs receipts with, before such a receipt is stored.
    fn keep_receipt_key(&self, _key: &ReceiptKey) -> Result<(), OutboxError> {
        Ok(())
    }

    /// All that were kept: whoever is shown a receipt may not know its key any more.
    fn receipt_keys(&self) -> Result<Vec<ReceiptKey>, OutboxError> {
        Ok(Vec::new())
    }

    /// Compares the collector's positions with the sender's chains and opens a successor where docs/protocol.md §8 asks for one.
    /// `latest` is the collector's latest stream of this agent.
    fn reconcile(&self, latest: Option<StreamId>, positions: &[CollectorPosition]) -> Result<Reconciled, OutboxError>;

    /// Told that two branches exist: nothing is opened by itself until a re-join; where that has come already, a successor
    /// is. docs/protocol.md §9.
    fn forked(&self, stream: StreamId) -> Result<Reconciled, OutboxError>;

    /// Changes whenever a batch has become sendable or a stream was opened.
    fn changes(&self) -> tokio::sync::watch::Receiver<u64>;

    /// The agent on whose behalf a relay sends; `None` where the agent itself does.
    ///
    /// A relay's receipts were final: what it holds it sends beyond a superseded stream's bound too, and it fills what the
    /// collector lacks below its head.
    fn relayed(&self) -> Option<AgentId> {
        None
    }

    /// The first batch to send, by where the collector stands: behind its head, unless this store's chain differs there.
    fn begins_at(&self, position: &CollectorPosition) -> Result<u64, OutboxError> {
        Ok(position.head.map_or(0, |(k, _)| k.saturating_add(1)))
    }

    /// Where the stream goes on if batch k is not held: a relay's copy of it may have holes. `None`: nowhere yet.
    fn next_run(&self, _stream: StreamId, _k: u64) -> Result<Option<Run>, OutboxError> {
        Ok(None)
    }

    /// What the collector has not kept yet of the agent's forks, and can judge by what it holds; a relay's alone.
    fn next_of_branches(&self) -> Result<Option<Branch>, OutboxError> {
        Ok(None)
    }

    /// The collector keeps it as evidence, durably, or has committed it after all.
    fn kept(&self, _stream: StreamId, _hash: Hash) -> Result<(), OutboxError> {
        Ok(())
    }
}
