//! Judges what agents send: identity, chain, seals; commits through the ledger, answers with receipts.
//!
//! Only what the chain covers is judged: sizes, count, Merkle root, previous head, seal. A sealed batch is never refused
//! for its content; a record that is not what it should be is committed as quarantined. Who an agent is comes from its
//! certificate alone. Nothing is answered with a receipt before the ledger's fsync.
//!
//! ```text
//! handshake (valid, not revoked) → attach (fence: older connections end) → resume → resumed
//!   → opening: signature, chain, binding → ledger → opened
//!   → take-up: evidence → ledger → taken up, or wait
//!   → batch: header and seal → body → root → facets → ledger → receipt
//! ```

mod batch;
mod doors;
mod end;
mod events;
mod fence;
mod follow;
mod limits;
mod losses;
mod opening;
mod party;
mod receipts;
mod relays;
mod renewal;
mod report;
mod resume;
mod session;
mod silence;
mod take_up;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::{ConnectionInfo, CrowdLimits, Incoming, PeerId};
use edgetrail_link::transport::Listen;
use edgetrail_link::wire;
use edgetrail_link::wire::ingest_server::IngestServer;
use edgetrail_proto::chain::{Hash, Receipt};
use edgetrail_proto::identity::RelayName;
use edgetrail_proto::limits::{MESSAGE_BYTES_MAX, SILENCE_MAX};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use self::doors::doors;
use self::events::Events;
pub use self::events::{EVENT_SOURCE, Notice, NoticeBoard};
use self::fence::Fence;
use self::follow::Followers;
pub use self::limits::IngestLimits;
use self::limits::Room;
pub use self::losses::{LossError, go_on_restored, report_losses};
pub use self::relays::Relays;
pub use self::report::NOTICES_MAX;
use self::session::Session;
use self::silence::Silences;
use self::trust::HomeTrust;
pub use self::trust::Trust;
use crate::control::Control;
use crate::internal::Internal;
use crate::ledger::{Ledger, LedgerError};
use crate::pki::{Pki, PkiError};

/// Batches of one agent that are read and not yet committed. Full ones are 16 MiB decoded; the ledger's queue bounds
/// them over all agents.
const WINDOW: usize = 16;

/// Answers that wait for the connection: receipts are small, and a peer that reads nothing is let wait.
const ANSWERS: usize = 32;

/// The connection's ping, as the agent's: silence is noticed within `SILENCE_MAX`.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIME_MAX: Duration = Duration::from_secs(8);

const _: () = assert!(PING_INTERVAL.as_secs() + PING_TIME_MAX.as_secs() <= SILENCE_MAX.as_secs());

/// Bytes that HTTP/2 lets an agent send ahead: one full batch that does not compress, and some.
const FLOW_BYTES: u32 = 2 * 1024 * 1024;

/// An agent attaches once; the rest is room for a connection that is being replaced.
const STREAMS_PER_CONNECTION: u32 = 4;

/// A relay attaches once for each agent, at most 64 at a time, and follows; the rest is room for those that end.
const STREAMS_OF_RELAY: u32 = 80;

/// Bytes that HTTP/2 lets a relay send ahead in one session; in all of them together, so that one which is not read
/// holds up none.
const RELAY_FLOW_BYTES: u32 = 512 * 1024;

/// Largest list of a request's headers; gRPC's own take some 500 bytes.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// After a stop, sessions may answer what is committed for this long.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// The ingest port.
#[derive(Debug)]
pub struct Ingest {
    context: Arc<Context>,
    crowd: CrowdLimits,
}

/// What every session knows.
#[derive(Debug)]
struct Context {
    ledger: Ledger,
    trust: Arc<dyn Trust>,
    internal: Option<Internal>,
    fence: Fence,
    room: Arc<Room>,
    events: Events,
    silences: Silences,
    /// Held while a new receipt key is made: two that find the same restore make one.
    restoring: tokio::sync::Mutex<()>,
    followers: Followers,
    sessions: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("ingest on {address:?} ended")]
    Serve {
        address: Option<SocketAddr>,
        #[source]
        source: tonic::transport::Error,
    },
}

/// Why a collector that was restored can't go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RestoreError {
    #[error("the ledger can't be read")]
    Ledger(#[source] LedgerError),
    #[error("no new receipt key can be made")]
    Pki(#[source] PkiError),
    #[error("making a receipt key ended in a panic")]
    Panicked,
}

impl Context {
    /// An own receipt for what the ledger does not hold: it is an older copy, and gives out indexes for the second time.
    async fn note_restore(self: &Arc<Self>, by: Receipt) -> Result<(), RestoreError> {
        let _one = self.restoring.lock().await;
        let context = Arc::clone(self);
        let noting = move || {
            if by.key != context.ledger.signs_as() {
                return Ok(());
            }
            let committed = context.ledger.committed(by.stream, by.k).map_err(RestoreError::Ledger)?;
            if committed.is_some_and(|committed| (committed.hash, committed.index) == (by.head, by.ledger_index)) {
                return Ok(());
            }
            tracing::error!(
                stream = %by.stream, k = by.k, index = by.ledger_index,
                "somebody shows this collector's own receipt for what the ledger lacks: it is an older copy, and goes on under a \
                 new receipt key"
            );
            let key = context.trust.renew_receipt_key().map_err(RestoreError::Pki)?;
            context.ledger.sign_with(Arc::new(key));
            Ok(())
        };
        tokio::task::spawn_blocking(noting).await.map_err(|_panicked| RestoreError::Panicked)?
    }

    /// Statements on receipt keys that somebody holds receipts of. One that the CA of this home has made and that is not known
    /// here any more shows the same: what is signed from here on is by a new key, and that one is an own one again.
    async fn note_keys(self: &Arc<Self>, stated: Vec<ReceiptKey>) -> Result<(), RestoreError> {
        let _one = self.restoring.lock().await;
        let context = Arc::clone(self);
        let noting = move || {
            let mut is_restored = false;
            for key in stated {
                if context.trust.take_back_receipt_key(&key).map_err(RestoreError::Pki)? {
                    let id = Hash::of(&key.public_key.0);
                    tracing::error!(
                        key = %id,
                        "somebody holds receipts by a key of this home that the collector does not know: it is an older copy, and \
                         goes on under a new receipt key"
                    );
                    context.ledger.signed_as(id);
                    is_restored = true;
                }
            }
            if is_restored {
                let key = context.trust.renew_receipt_key().map_err(RestoreError::Pki)?;
                context.ledger.sign_with(Arc::new(key));
            }
            Ok(())
        };
        tokio::task::spawn_blocking(noting).await.map_err(|_panicked| RestoreError::Panicked)?
    }

    /// Losses that the ledger has put on record become gaps; what fails now is tried at the next one, and at start.
    async fn report_losses(&self) {
        let Some(internal) = &self.internal else { return };
        if let Err(error) = report_losses(&self.ledger, internal).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a loss could not be reported yet");
        }
    }
}

impl Ingest {
    /// What ingest notices is recorded through `internal`, where there is one.
    pub fn new(ledger: Ledger, control: Control, pki: &Pki, internal: Option<Internal>) -> Self {
        Self::with_limits(ledger, control, pki, internal, IngestLimits::default())
    }

    pub fn with_limits(ledger: Ledger, control: Control, pki: &Pki, internal: Option<Internal>, limits: IngestLimits) -> Self {
        Self::trusting(ledger, Arc::new(HomeTrust { control, pki: pki.clone() }), internal, limits)
    }

    /// The same where others say whom to believe: at a relay.
    pub fn trusting(ledger: Ledger, trust: Arc<dyn Trust>, internal: Option<Internal>, limits: IngestLimits) -> Self {
        let context = Context {
            ledger,
            trust,
            fence: Fence::default(),
            room: Arc::new(Room::new(limits)),
            events: internal.clone().map(Events::new).unwrap_or_default(),
            silences: Silences::default(),
            internal,
            restoring: tokio::sync::Mutex::default(),
            followers: Followers::default(),
            sessions: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        // One address may be a whole fleet's: an agent's own connections are few by its certificate.
        let crowd = CrowdLimits { connections: limits.connections, connections_of_address: limits.connections };
        Self { context: Arc::new(context), crowd }
    }

    /// What ingest notices goes to `board`, where there is no internal stream to record it in.
    #[must_use]
    pub fn noticing(mut self, board: Arc<dyn NoticeBoard>) -> Self {
        if let Some(context) = Arc::get_mut(&mut self.context) {
            context.events = Events::posting(board);
        }
        self
    }

    /// Serves until stopped; then each session answers what is committed, and ends.
    pub async fn serve(self, listener: impl Listen, stop: CancellationToken) -> Result<(), IngestError> {
        let address = listener.local_addr().ok();
        let service = IngestServer::new(Service(Arc::clone(&self.context)))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let context = Arc::clone(&self.context);
        // What a crash left unreported.
        context.report_losses().await;
        drop(context.sessions.spawn(silence::watch(Arc::clone(&context))));
        let incoming = Incoming::new(listener, context.trust.tls()).admitting(context.trust.admission()).at_most(self.crowd);
        let (agents, relays) = doors(incoming);
        let server = || {
            tonic::transport::Server::builder()
                .http2_keepalive_interval(Some(PING_INTERVAL))
                .http2_keepalive_timeout(Some(PING_TIME_MAX))
                .http2_max_header_list_size(HEADER_BYTES_MAX)
        };
        let of_agents = server()
            .initial_stream_window_size(FLOW_BYTES)
            .initial_connection_window_size(FLOW_BYTES)
            .max_concurrent_streams(STREAMS_PER_CONNECTION)
            .add_service(service.clone())
            .serve_with_incoming_shutdown(agents, stop.clone().cancelled_owned());
        let of_relays = server()
            .initial_stream_window_size(RELAY_FLOW_BYTES)
            .initial_connection_window_size(RELAY_FLOW_BYTES * STREAMS_OF_RELAY)
            .max_concurrent_streams(STREAMS_OF_RELAY)
            .add_service(service)
            .serve_with_incoming_shutdown(relays, stop.clone().cancelled_owned());
        let (of_agents, of_relays) = (Box::pin(of_agents), Box::pin(of_relays));
        let serving = async { tokio::try_join!(of_agents, of_relays).map(|_both| ()) };
        let served = tokio::select! {
            served = serving => served,
            // A connection that never closes does not hold up the stop.
            () = async {
                stop.cancelled().await;
                context.stop.cancel();
                tokio::time::sleep(STOP_TIME_MAX).await;
            } => Ok(()),
        };
        self.context.stop.cancel();
        self.context.sessions.close();
        if tokio::time::timeout(STOP_TIME_MAX, self.context.sessions.wait()).await.is_err() {
            tracing::warn!("sessions did not end in time");
        }
        served.map_err(|source| IngestError::Serve { address, source })
    }
}

/// The gRPC face of the context.
#[derive(Clone)]
struct Service(Arc<Context>);

#[tonic::async_trait]
impl wire::ingest_server::Ingest for Service {
    type AttachStream = ReceiverStream<Result<wire::FromCollector, Status>>;

    async fn attach(&self, request: Request<Streaming<wire::FromAgent>>) -> Result<Response<Self::AttachStream>, Status> {
        let connection = request.extensions().get::<ConnectionInfo>().cloned();
        // The handshake gives no connection without a peer; this is a second lock on the same door.
        let peer = connection.as_ref().and_then(|info| info.peer.clone());
        let (Some(connection), Some(peer)) = (connection, peer) else {
            return Err(Status::unauthenticated("a client certificate is needed"));
        };
        let (answers, outbound) = mpsc::channel(ANSWERS);
        let session = Session::new(Arc::clone(&self.0), peer, (connection.address, connection.heard), answers);
        let inbound = request.into_inner();
        drop(self.0.sessions.spawn(session.run(inbound)));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    type FollowStream = ReceiverStream<Result<wire::HomeState, Status>>;

    async fn follow(&self, request: Request<wire::FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let relay = relay_of(&request)?;
        let receipt = request.into_inner().receipt;
        // One that this home's keys do not verify shows nothing.
        if let Ok(receipt) = self.0.trust.receipt_keys().verify(&receipt) {
            let noted = self.0.note_restore(receipt).await;
            noted.map_err(|error| {
                tracing::error!(error = &error as &dyn std::error::Error, "the collector was restored, and can't go on");
                Status::unavailable("home can't say now")
            })?;
        }
        let (states, outbound) = mpsc::channel(1);
        drop(self.0.sessions.spawn(follow::follow(Arc::clone(&self.0), relay, states)));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn report(&self, request: Request<wire::RelayReport>) -> Result<Response<wire::RelayReported>, Status> {
        let relay = relay_of(&request)?;
        report::take(&self.0, &relay, request.into_inner()).await?;
        Ok(Response::new(wire::RelayReported {}))
    }
}

/// The relay that the connection's certificate names.
fn relay_of<T>(request: &Request<T>) -> Result<RelayName, Status> {
    let peer = request.extensions().get::<ConnectionInfo>().and_then(|info| info.peer.clone());
    match peer.map(|peer| peer.identity.id()) {
        Some(PeerId::Relay(name)) => Ok(name),
        _ => Err(Status::permission_denied("this is for relays alone")),
    }
}

/// For the fuzz targets: what is done with a message before the ledger or an authority is asked.
#[cfg(fuzzing)]
pub(crate) fn read_unattached(message: wire::FromAgent) {
    use edgetrail_link::wire::from_agent::Message;
    use edgetrail_proto::chain::{Binding, Open};
    match message.message {
        Some(Message::Batch(batch)) => {
            let everything = Binding::parse(b"*/*\ncollector\n");
            if let (Ok(received), Ok(mut decoder), Ok(binding)) =
                (batch::Received::read(batch, crate::ledger::Bringer::Agent), edgetrail_link::body::Decoder::new(), everything)
                && let Ok(incoming) = received.verify_alone(&binding, &mut decoder)
            {
                assert_eq!(incoming.records.len(), usize::try_from(incoming.header.count).unwrap_or(usize::MAX));
            }
        }
        Some(Message::Opening(opening)) => {
            if let (Ok(open), Ok(binding)) = (Open::decode(&opening.open), Binding::parse(&opening.binding)) {
                assert_eq!(
                    binding.hash() == open.binding,
                    binding.to_bytes() == *opening.binding && binding.hash() == open.binding
                );
            }
        }
        _ => {}
    }
}
