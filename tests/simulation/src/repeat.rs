//! Messages that come again: what a host has sent once is sent again, in another order, on a connection of its own.
//!
//! A network can't do that, under TLS. A second process of the host can (an old one that was frozen and thawed, a
//! supervisor's mistake), and so can whoever holds the host's key. The ledger must hold each batch once all the same.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edgetrail_link::body::Encoder;
use edgetrail_link::outbox::{CollectorPosition, HeldStream, Opening, Outbox, OutboxError, OutgoingBatch, Reconciled};
use edgetrail_link::transport::Dial;
use edgetrail_link::uplink::{Credentials, Endpoint, channel_over};
use edgetrail_link::wire::{self, FromAgent, from_agent::Message, ingest_client::IngestClient};
use edgetrail_power::rng::Rng;
use edgetrail_proto::chain::Receipt;
use edgetrail_proto::identity::StreamId;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::network::Network;

/// Batches that are remembered: with the oldest of them a whole run can be repeated.
const REMEMBERED_MAX: usize = 512;

/// Messages of one repetition.
const REPEATED_MAX: usize = 24;

/// The collector has answered or ended the session by then, simulated.
const ANSWERED_MAX: Duration = Duration::from_secs(3);

/// What has left the host, since its first start.
#[derive(Default)]
pub(crate) struct Sent {
    batches: Mutex<Vec<OutgoingBatch>>,
    repeated: AtomicUsize,
}

impl Sent {
    /// Messages that went out again and were taken by the connection.
    pub(crate) fn repeated(&self) -> usize {
        self.repeated.load(Ordering::Relaxed)
    }
}

/// The shelf, and an eye on what is taken from it.
pub(crate) struct Watched {
    pub(crate) shelf: Arc<dyn Outbox>,
    pub(crate) sent: Arc<Sent>,
}

impl Outbox for Watched {
    fn held(&self) -> Result<Vec<HeldStream>, OutboxError> {
        self.shelf.held()
    }

    fn batch(&self, stream: StreamId, k: u64) -> Result<Option<OutgoingBatch>, OutboxError> {
        let batch = self.shelf.batch(stream, k)?;
        let mut sent = self.sent.batches.lock().unwrap();
        if let Some(batch) = batch.as_ref().filter(|_| sent.len() < REMEMBERED_MAX) {
            sent.push(batch.clone());
        }
        Ok(batch)
    }

    fn store_receipt(&self, receipt: &Receipt) -> Result<(), OutboxError> {
        self.shelf.store_receipt(receipt)
    }

    fn reconcile(&self, latest: Option<StreamId>, positions: &[CollectorPosition]) -> Result<Reconciled, OutboxError> {
        self.shelf.reconcile(latest, positions)
    }

    fn forked(&self, stream: StreamId) -> Result<Reconciled, OutboxError> {
        self.shelf.forked(stream)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shelf.changes()
    }
}

impl Watched {
    /// Connects and sends again; whatever comes of it is the collector's to judge.
    pub(crate) async fn repeat(&self, endpoint: &Endpoint, credentials: &Credentials, rng: &mut Rng) {
        let dial: Arc<dyn Dial> = Arc::new(Network);
        let Ok(channel) = channel_over(&dial, endpoint, Arc::clone(&credentials.tls)).await else { return };
        let messages = self.messages(rng);
        let count = messages.len();
        let (to_collector, queue) = mpsc::channel(messages.len().max(1));
        for message in messages {
            to_collector.try_send(FromAgent { message: Some(message) }).unwrap();
        }
        let attached = IngestClient::new(channel).attach(ReceiverStream::new(queue)).await;
        let Ok(mut answers) = attached.map(tonic::Response::into_inner) else { return };
        self.sent.repeated.fetch_add(count, Ordering::Relaxed);
        let heard = async { while let Ok(Some(_)) = answers.message().await {} };
        drop(tokio::time::timeout(ANSWERED_MAX, heard).await);
    }

    /// A resume as the uplink makes it, then opens and batches by chance: again, and batches in any order. Opens come oldest
    /// first, as every process of the agent shows them: one that comes behind its successor's takes nothing any more, and its
    /// records are sealed again (docs/protocol.md §8), which the oracle would take for a loss.
    fn messages(&self, rng: &mut Rng) -> Vec<Message> {
        let held = self.shelf.held().unwrap();
        let streams = held.iter().map(held_to_wire).collect();
        let mut messages =
            vec![Message::Resume(wire::Resume { agent_version: "1".to_owned(), streams, ..wire::Resume::default() })];
        let sent = self.sent.batches.lock().unwrap();
        let mut at = rng.below(sent.len());
        for _ in 0..rng.below(REPEATED_MAX) {
            if rng.one_in(6) {
                messages.extend(held.iter().map(|stream| Message::Opening(opening_to_wire(&stream.opening))));
            }
            messages.extend(sent.get(at).map(|batch| Message::Batch(batch_to_wire(batch))));
            // Mostly the next one: what comes out of order ends the session.
            at = if rng.one_in(8) { rng.below(sent.len()) } else { at + rng.below(2) };
        }
        messages
    }
}

fn held_to_wire(held: &HeldStream) -> wire::HeldStream {
    wire::HeldStream {
        opening: Some(opening_to_wire(&held.opening)),
        last_receipted: held.last_receipted.as_ref().map(|(header, seal, receipt)| wire::LastReceipted {
            header: header.encode().to_vec().into(),
            seal: seal.0.to_vec().into(),
            receipt: receipt.encode().into(),
        }),
        unreceipted: held.unreceipted.iter().map(|(k, hash)| wire::NamedBatch { k: *k, hash: hash.0.to_vec().into() }).collect(),
    }
}

fn opening_to_wire(opening: &Opening) -> wire::Opening {
    wire::Opening {
        open: opening.open.clone().into(),
        binding: opening.binding.clone().into(),
        signature: opening.signature.clone().into(),
        certificate_chain: opening.certificate_chain.iter().map(|certificate| certificate.clone().into()).collect(),
        fork: false,
    }
}

fn batch_to_wire(batch: &OutgoingBatch) -> wire::Batch {
    let body = batch.body.plain().unwrap();
    let body_bytes = u32::try_from(body.len()).unwrap();
    let (encoding, body) = Encoder::new().unwrap().encode(body.to_vec());
    wire::Batch {
        header: batch.header.encode().to_vec().into(),
        seal: batch.seal.0.to_vec().into(),
        encoding: encoding.to_wire(),
        body: body.into(),
        body_bytes,
        caller_waits: batch.caller_waits,
        ..wire::Batch::default()
    }
}
