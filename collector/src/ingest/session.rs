//! One agent's streams, brought by itself or by a relay: its messages in order, the ledger's answers as they become durable.
//!
//! Batches are verified one after the other against a head that runs ahead of the ledger's; the ledger compares again
//! inside its transaction. After the first thing that is refused the session ends: what the agent sent behind it is not
//! read, and it resumes from what the ledger really holds.

mod branches;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use edgetrail_link::body::Decoder;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::{LastSign, Peer, PeerId};
use edgetrail_link::wire::{self, from_agent, from_collector};
use edgetrail_proto::chain::{BatchKind, Hash, Predecessor, Receipt, Verifier};
use edgetrail_proto::identity::{AgentId, StreamId};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use self::branches::{check_past, is_of_a_fork};
use super::batch::Received;
use super::end::{Answer, End, Left};
use super::events::Noticed;
use super::fence::Place;
use super::opening;
use super::party::Party;
use super::receipts::{Haste, Receipts};
use super::renewal;
use super::resume::{self, named_head, stream_bytes};
use super::{Context, WINDOW, silence, take_up};
use crate::control::Revoked;
use crate::ledger::{Act, CommitError, Committed, Pending, Quarantine, StreamInfo, StreamState, TakenUp, Waiting, Why};

/// An agent that has attached says what it holds within this time.
const RESUME_TIME_MAX: Duration = Duration::from_secs(30);

/// Whether the certificate has ended is looked at this often.
const EXPIRY_LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// What a forked agent has sent already is read for this long.
const BRANCH_TIME_MAX: Duration = Duration::from_millis(500);

/// What an agent that was told of a fork shows of its branch is read for this long, and so many batches of it.
const SHOWN_TIME_MAX: Duration = Duration::from_secs(6);
const SHOWN_MAX: usize = 256;

/// A session reads streams of one agent: its current one, and older ones on the way out.
const STREAMS_MAX: usize = edgetrail_proto::limits::STREAMS_NAMED_MAX;

pub(super) struct Session {
    context: Arc<Context>,
    peer: Arc<Peer>,
    party: Party,
    address: SocketAddr,
    /// When anything came on the connection, a ping's answer too.
    sign: LastSign,
    answers: mpsc::Sender<Result<wire::FromCollector, Status>>,
    /// Taken with the resume; a newer session of the same peer for the same agent cancels `fenced`.
    place: Option<Place>,
    fenced: CancellationToken,
    /// Streams on record, with the head that the next batch must follow.
    streams: HashMap<StreamId, Tracked>,
    /// Put to the ledger and not yet durable, in order.
    pending: FuturesOrdered<BoxFuture<'static, Answered>>,
    receipts: Receipts,
    /// Nothing more is read before this: the agent's rate.
    paced: Instant,
    /// When the certificate ends that the session runs under, Unix seconds.
    not_after: watch::Sender<i64>,
    /// The agent was told that it lies behind this stream of a party that had been restored.
    behind: Option<StreamId>,
    /// When the agent joined last, Unix nanoseconds.
    joined_ns: u64,
    /// Streams that the agent holds anything of.
    named: HashSet<StreamId>,
    /// Kept from batch to batch; absent while a blocking thread uses it.
    decoder: Option<Decoder>,
    /// A relay's batches that belong to a fork, and are to be answered.
    kept: Vec<(Put, CommitError)>,
}

/// What the ledger answers for a batch of a stream.
type Answered = (Result<Committed, CommitError>, Put);

/// A batch that was put to the ledger.
#[derive(Clone, Copy)]
struct Put {
    stream: StreamId,
    k: u64,
    hash: Hash,
    haste: Haste,
}

struct Tracked {
    info: Arc<StreamInfo>,
    verifier: Verifier,
}

impl Session {
    pub(super) fn new(
        context: Arc<Context>,
        peer: Arc<Peer>,
        (address, sign): (SocketAddr, LastSign),
        answers: mpsc::Sender<Result<wire::FromCollector, Status>>,
    ) -> Self {
        let not_after = watch::Sender::new(peer.not_after);
        Self {
            not_after,
            paced: Instant::now(),
            context,
            party: Party::of(&peer.identity),
            place: None,
            fenced: CancellationToken::new(),
            peer,
            address,
            sign,
            answers,
            streams: HashMap::new(),
            pending: FuturesOrdered::new(),
            receipts: Receipts::default(),
            behind: None,
            joined_ns: 0,
            named: HashSet::new(),
            decoder: None,
            kept: Vec::new(),
        }
    }

    pub(super) async fn run(mut self, mut inbound: Streaming<wire::FromAgent>) {
        let (context, fenced, peer) = (Arc::clone(&self.context), self.fenced.clone(), self.party.peer());
        let expired = expired(self.not_after.subscribe());
        let end = tokio::select! {
            end = self.converse(&mut inbound) => end,
            () = fenced.cancelled() => End::Fenced,
            () = revoked(context.trust.revoked(), &peer) => End::Revoked,
            () = expired => End::Expired,
            () = context.stop.cancelled() => End::Stopping,
        };
        if matches!(&end, End::Commit { source: CommitError::Fork { .. }, .. }) {
            // Bounded in time as in number: what is on the way is evidence, what would come is not waited for.
            drop(tokio::time::timeout(BRANCH_TIME_MAX, self.keep_branch(&mut inbound, WINDOW)).await);
        }
        let is_told = end.tells_of_a_fork() && !self.party.is_relay();
        let left = Left::by(&end, self.sign.at().elapsed()).filter(|_| self.place.is_some() && !self.party.is_relay());
        self.finish(end).await;
        if is_told {
            // Both parties go on sealing, and each shows it: that is what proves to others that they are two.
            let fenced = self.fenced.clone();
            tokio::select! {
                _ = tokio::time::timeout(SHOWN_TIME_MAX, self.keep_branch(&mut inbound, SHOWN_MAX)) => {}
                () = fenced.cancelled() => {}
                () = context.stop.cancelled() => {}
            }
        }
        if let Some(left) = left {
            self.leave(left).await;
        }
    }

    /// Nobody holds the agent's place any more: from here on its silence counts, unless it has stopped in order.
    async fn leave(&mut self, left: Left) {
        let (ledger, agent) = (self.context.ledger.clone(), self.party.agent());
        let latest = blocking(move || ledger.latest(agent).map_err(End::Ledger)).await;
        if !latest.is_ok_and(|latest| latest.is_some_and(|latest| !latest.head.closed && !latest.is_frozen())) {
            return;
        }
        let address = self.address.ip().to_string();
        self.context.silences.left(&self.party, address, left, self.sign.at(), Instant::now());
        drop(self.place.take());
        // In this order: one that attaches meanwhile is found here, or finds what it was waited with.
        if self.context.fence.holds(agent) {
            self.context.silences.heard(agent, Instant::now());
        }
    }

    /// At a relay: home has found a fork of the agent. It hears so at once, not only with its next batch.
    fn shut_out(&self) -> End {
        let stream = self.streams.keys().chain(&self.named).next().copied();
        let source = CommitError::Frozen { agent: self.party.agent() };
        // Who has no stream yet hears it when coming back.
        stream.map_or(End::Stopping, |stream| End::Commit { stream, source })
    }

    /// Until something ends it; never returns otherwise.
    async fn converse(&mut self, inbound: &mut Streaming<wire::FromAgent>) -> End {
        match self.begin(inbound).await {
            Ok(()) => {}
            Err(end) => return end,
        }
        // Whoever has joined again since was let in: home says so a little later.
        let shut_out = shut_out(self.context.trust.shut_out(), self.party.peer());
        let mut shut_out = std::pin::pin!(shut_out);
        loop {
            if let Err(end) = self.send_due_receipts().await {
                return end;
            }
            let due = self.receipts.next_due();
            let step = tokio::select! {
                Some((committed, put)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.committed(committed, put)
                }
                () = sleep_until(due), if due.is_some() => Ok(()),
                () = &mut shut_out => Err(self.shut_out()),
                message = next_message_from(self.paced, inbound), if self.pending.len() < WINDOW => match message {
                    Ok(message) => self.take(message).await,
                    Err(end) => Err(end),
                },
            };
            if let Err(end) = step {
                // What was sent before it counts before it: a fork, above all.
                return self.settle().await.err().unwrap_or(end);
            }
        }
    }

    /// The agent's first message names what it holds; the answer says where it goes on.
    async fn begin(&mut self, inbound: &mut Streaming<wire::FromAgent>) -> Result<(), End> {
        let first = tokio::time::timeout(RESUME_TIME_MAX, next_message(inbound)).await.map_err(|_| End::NoResume)??;
        let from_agent::Message::Resume(resume) = first else {
            return Err(End::Protocol("the first message is a resume"));
        };
        self.party.name(&resume.agent_id).map_err(End::Party)?;
        let (agent, peer) = (self.party.agent(), self.party.peer());
        // Before anything is answered: what an older session still reads is refused from here on.
        self.place = Some(self.context.fence.enter(peer.clone(), agent, self.fenced.clone()));
        let trust = Arc::clone(&self.context.trust);
        let (version, now) = (resume.agent_version.clone(), unix_ns(SystemTime::now()));
        // A certificate of before its holder's last join is one that the join has replaced: a clone's, perhaps.
        let issued = self.peer.chain.first().and_then(|leaf| crate::pki::issued_at(leaf).ok()).unwrap_or(0);
        let joined_ns = blocking(move || {
            let joined = trust.joined_ns(&peer).map_err(End::Control)?;
            if joined.is_some_and(|joined| issued < joined / 1_000_000_000) {
                return Err(End::Outdated);
            }
            // Shown to operators as it is: nothing in it moves a terminal's cursor.
            let version: String = version.chars().filter(|c| !c.is_control()).take(64).collect();
            trust.seen(&PeerId::Agent(agent), &version, now).map_err(End::Control)?;
            if matches!(peer, PeerId::Relay(_)) {
                trust.seen(&peer, "", now).map_err(End::Control)?;
                return Ok(trust.joined_ns(&PeerId::Agent(agent)).map_err(End::Control)?.unwrap_or(0));
            }
            // Of a foreign PKI there is no join: a new certificate stands for it.
            Ok(joined.unwrap_or(issued.saturating_mul(1_000_000_000)))
        })
        .await?;
        self.joined_ns = joined_ns;
        let known = self.context.trust.receipt_keys();
        let stated = resume.receipt_keys.iter().take(STREAMS_MAX).filter_map(|key| ReceiptKey::from_wire(key).ok());
        let unknown: Vec<ReceiptKey> = stated.filter(|key| !known.holds(&key.public_key)).collect();
        if !unknown.is_empty() {
            self.context.note_keys(unknown).await.map_err(|error| End::Restored(Box::new(error)))?;
        }
        // The agent's next header names the last of them.
        let receipted = resume.streams.iter().filter_map(|held| held.last_receipted.as_ref());
        self.know(receipted.map(|receipted| &receipted.receipt), None).await?;
        let (ledger, keys) = (self.context.ledger.clone(), self.context.trust.receipt_keys());
        let bringer = self.party.bringer();
        let answered =
            blocking(move || resume::answer(&ledger, agent, bringer, &resume, &keys, joined_ns).map_err(End::Resume)).await?;
        let resume::Answered { resumed, behind, named, scope } = answered;
        (self.behind, self.named) = (behind, named);
        self.party.place(scope.as_ref());
        silence::heard(&self.context, &self.party, &self.address.ip().to_string()).await;
        tracing::info!(%agent, by = %self.party.peer(), address = %self.address, streams = resumed.streams.len(), "agent attached");
        self.answer(from_collector::Message::Resumed(resumed)).await
    }

    async fn take(&mut self, message: from_agent::Message) -> Result<(), End> {
        match message {
            from_agent::Message::Resume(_) => Err(End::Protocol("a resume comes first and once")),
            from_agent::Message::Opening(opening) => self.open(opening).await,
            from_agent::Message::Batch(batch) => self.batch(batch).await,
            from_agent::Message::TakeUp(take_up) => self.take_up(take_up).await,
            from_agent::Message::Renewed(renewed) => self.renewed(&renewed),
        }
    }

    /// Everything that was sent until now is durable, or refused.
    async fn settle(&mut self) -> Result<(), End> {
        while let Some((committed, put)) = self.pending.next().await {
            self.committed(committed, put)?;
        }
        Ok(())
    }

    /// Goes on under the certificate that has renewed the connection's: the handshake has proven that the key is held.
    fn renewed(&mut self, renewed: &wire::Renewed) -> Result<(), End> {
        self.peer = renewal::verify(renewed, &self.peer, self.context.trust.as_ref()).map_err(End::Renewal)?;
        self.not_after.send_replace(self.peer.not_after);
        tracing::info!(peer = %self.party.peer(), "certificate renewed, the session goes on");
        Ok(())
    }

    async fn open(&mut self, opening: wire::Opening) -> Result<(), End> {
        self.paced = self.paced.max(self.context.room.note_open(self.party.agent(), Instant::now().into_std()).into());
        // What was sent before the open counts before it: the bound of the stream that it supersedes depends on it.
        self.settle().await?;
        let (trust, party, fork) = (Arc::clone(&self.context.trust), self.party.clone(), opening.fork);
        let info = blocking(move || opening::verify(&opening, &party, trust.as_ref()).map_err(End::Opening)).await?;
        self.party.place(info.binding.scopes().next());
        let (stream, agent, predecessor, hash) = (info.stream, info.agent, info.open.predecessor, info.open.hash());
        let ledger = self.context.ledger.clone();
        let (latest, recorded) = blocking(move || {
            let recorded = ledger.stream(stream).map_err(End::Ledger)?.filter(|state| state.info.agent == agent);
            Ok((ledger.latest(agent).map_err(End::Ledger)?, recorded))
        })
        .await?;
        let latest = latest.as_ref();
        if self.party.is_relay() && (fork || latest.is_some_and(StreamState::is_frozen)) {
            self.hear_of_joins().await?;
        }
        // What was done before the agent's last join is settled by it.
        let fork = fork && info.open.t_opened > self.joined_ns;
        if latest.is_some_and(|latest| resume::is_shut_out(latest, self.joined_ns)) {
            let source = CommitError::Frozen { agent };
            if !self.party.is_relay() {
                return Err(End::Commit { stream, source });
            }
            // Its batches have a relay's receipts: with its open they can be judged.
            let kept = self.context.ledger.freeze(Act::Open(info)).await;
            kept.map_err(|source| End::Commit { stream, source })?;
            return self.answer_kept(stream, None, hash, &source).await;
        }
        if self.behind.is_some() && recorded.is_none() {
            return self.freeze(Act::Open(info), stream, 0).await;
        }
        if fork && self.party.is_relay() && recorded.is_none_or(|state| state.info.open.hash() != hash) {
            let kept = self.context.ledger.freeze(Act::Open(info)).await;
            kept.map_err(|source| End::Commit { stream, source })?;
            return self.answer_kept(stream, None, hash, &CommitError::Fork { stream, k: 0 }).await;
        }
        // Of what a relay brings nobody says which party opened it.
        let joined_at = if self.party.is_relay() { 0 } else { self.joined_ns };
        let recorded = self.context.ledger.record_open_by(info, self.party.bringer(), joined_at).await;
        let opened = match recorded {
            Err(source) if self.party.is_relay() && is_of_a_fork(&source) => {
                return self.answer_kept(stream, None, hash, &source).await;
            }
            recorded => recorded.map_err(|source| End::Commit { stream, source })?,
        };
        // Whatever was known of the agent's streams may have changed: read anew what is used next.
        self.streams.clear();
        if !self.party.is_relay() {
            self.note_unheld(stream, predecessor).await?;
        }
        self.named.insert(stream);
        tracing::info!(agent = %self.party.agent(), %stream, superseded = opened.superseded, "stream opened");
        let opened = wire::Opened { stream: stream_bytes(stream), superseded: opened.superseded };
        self.answer(from_collector::Message::Opened(opened)).await
    }

    /// An open that names a batch which neither the ledger nor the agent holds: what lies between is gone, and reported by
    /// its exact range.
    async fn note_unheld(&mut self, named_by: StreamId, predecessor: Option<Predecessor>) -> Result<(), End> {
        let Some(Predecessor { stream, k, .. }) = predecessor.filter(|named| named.k != Predecessor::NO_BATCH) else {
            return Ok(());
        };
        // Who keeps no internal stream reports nothing: a relay holds parts of streams, and home knows the rest.
        if self.context.internal.is_none() {
            return Ok(());
        }
        // Of an agent that may have named only its newest streams nothing is concluded.
        if self.named.contains(&stream) || self.named.len() >= STREAMS_MAX {
            return Ok(());
        }
        let lost = self.context.ledger.lose(stream, k, Why::NotReceived { named_by }).await;
        if lost.map_err(|source| End::Commit { stream, source })? {
            self.context.report_losses().await;
        }
        Ok(())
    }

    /// The stream goes on behind batches that are missing here, or waits: either way the session does too.
    async fn take_up(&mut self, take_up: wire::TakeUp) -> Result<(), End> {
        self.settle().await?;
        let evidence = take_up::verify(&take_up, &self.context.trust.receipt_keys()).map_err(End::TakeUp)?;
        let (stream, hash) = (evidence.header.stream, evidence.hash);
        self.note_own(&evidence.receipt).await?;
        // Read anew behind what the ledger does.
        self.streams.remove(&stream);
        let taken_up = match self.track(stream).await {
            Err(End::Commit { source: CommitError::Frozen { agent }, .. }) if self.party.is_relay() => {
                Err(CommitError::Frozen { agent })
            }
            Err(end) => return Err(end),
            Ok(()) => self.context.ledger.take_up(evidence).await,
        };
        self.streams.remove(&stream);
        let taken_up = match taken_up {
            Err(source) if self.party.is_relay() && is_of_a_fork(&source) => {
                return self.answer_kept(stream, None, hash, &source).await;
            }
            taken_up => taken_up.map_err(|source| End::Commit { stream, source })?,
        };
        let answer = match taken_up {
            TakenUp::GoesOn { head, missing } => {
                if missing.is_some() {
                    self.context.report_losses().await;
                }
                from_collector::Message::TakenUp(wire::TakenUp { stream: stream_bytes(stream), head: named_head(&head) })
            }
            TakenUp::Waits(waiting) => {
                self.alarm(&waiting).await;
                from_collector::Message::Wait(wire::Wait {
                    stream: stream_bytes(stream),
                    head: named_head(&waiting.head),
                    missing_from: waiting.from,
                    missing_to: waiting.to,
                    signer: waiting.signer.0.to_vec().into(),
                })
            }
        };
        self.answer(answer).await
    }

    /// Once for each stream that waits.
    async fn alarm(&mut self, waiting: &Waiting) {
        if !waiting.is_new {
            return;
        }
        let Waiting { info, from, to, signer, .. } = waiting;
        tracing::warn!(
            agent = %info.agent, stream = %info.stream, from, to, %signer,
            "a stream waits for batches that another collector gave a receipt for: bring that collector back, or forget it"
        );
        let details = json!({
            "stream": info.stream.to_string(), "fromBatch": from, "toBatch": to, "receiptKey": signer.to_string(),
        });
        let reason = "another collector gave a receipt for batches that have not come";
        let count = to.saturating_sub(*from).saturating_add(1);
        let address = self.address.ip().to_string();
        self.context.events.notice(Noticed::AwaitBatches, &self.party, &address, count, reason, details).await;
    }

    /// Waits for room among all agents' batches. What this session holds itself becomes free meanwhile.
    async fn room(&mut self, bytes: usize) -> Result<OwnedSemaphorePermit, End> {
        let mut room = Box::pin(Arc::clone(&self.context.room).take(bytes));
        loop {
            tokio::select! {
                room = &mut room => return room.map_err(|_| End::Stopping),
                Some((committed, put)) = self.pending.next(), if !self.pending.is_empty() => {
                    self.committed(committed, put)?;
                }
            }
        }
    }

    async fn batch(&mut self, batch: wire::Batch) -> Result<(), End> {
        let refused = |stream| move |source| End::Batch { stream, source };
        let bytes = batch.body.len().saturating_add(usize::try_from(batch.body_bytes).unwrap_or(usize::MAX));
        let paced = self.context.room.note(self.party.agent(), u64::from(batch.body_bytes), Instant::now().into_std());
        self.paced = self.paced.max(paced.into());
        let room = self.room(bytes).await?;
        if self.party.is_relay() {
            // Wherever it comes from: the agent seals.
            silence::heard(&self.context, &self.party, &self.address.ip().to_string()).await;
        }
        let (named_receipts, fork) = (batch.named_receipts.clone(), batch.fork && self.party.is_relay());
        let received = Received::read(batch, self.party.bringer()).map_err(refused(None))?;
        self.know(named_receipts.iter(), Some(received.header.last_receipt)).await?;
        let (stream, k) = (received.header.stream, received.header.k);
        if self.party.is_relay() && self.is_of_a_branch(&received).await? {
            let (hash, source) = (received.hash, CommitError::Frozen { agent: self.party.agent() });
            self.answer_branches().await?;
            return match self.keep(received).await? {
                true => self.answer_kept(stream, Some(k), hash, &source).await,
                false => Err(End::Commit { stream, source }),
            };
        }
        self.track(stream).await?;
        let Some(tracked) = self.streams.get(&stream) else { return Err(End::Verification) };
        let (info, verifier) = (Arc::clone(&tracked.info), tracked.verifier.clone());
        let caller_waits = received.caller_waits || received.header.kind == BatchKind::Close;
        let haste = if caller_waits { Haste::Now } else { Haste::None };
        let mut decoder = match self.decoder.take() {
            Some(decoder) => decoder,
            None => Decoder::new().map_err(|_| End::Verification)?,
        };

        // Beyond the next one, or of another chain: nothing can be said of it, and no forgery is shown; the agent is told
        // where to go on. At or below the head: the ledger knows whether it is the same.
        let head = verifier.head();
        if k > verifier.next_k() || (k == verifier.next_k() && received.header.previous != head.hash) {
            let expect = End::Expect(Box::new(head.clone()));
            // Unless it follows a fork that is not answered yet.
            let Err(earlier) = self.settle().await else { return Err(expect) };
            if matches!(&earlier, End::Commit { source: CommitError::Fork { .. }, .. }) {
                self.keep(received).await?;
            }
            return Err(earlier);
        }
        if fork {
            self.hear_of_joins().await?;
        }
        // What was done before the agent's last join is settled by it.
        let fork = fork && received.header.t_sealed > self.joined_ns;
        let past = k < verifier.next_k();
        let (ledger, agent) = (self.context.ledger.clone(), self.party.agent());
        let (decoder, head, incoming) = blocking(move || {
            if past || fork {
                check_past(&ledger, &info, &received, fork)?;
                let incoming = received.verify_alone(&info.binding, &mut decoder).map_err(refused(Some(stream)))?;
                return Ok((decoder, None, incoming));
            }
            let verified = received.verify(&verifier, &info.binding, &mut decoder).map_err(refused(Some(stream)))?;
            Ok((decoder, Some(verified.0), verified.1))
        })
        .await?;
        self.decoder = Some(decoder);
        if fork {
            // Sealed by the agent's stream, as was checked; a batch that is held already shows nothing.
            let (ledger, hash) = (self.context.ledger.clone(), incoming.hash);
            let committed = blocking(move || ledger.committed(stream, k).map_err(End::Ledger)).await?;
            if committed.is_none_or(|committed| committed.hash != hash) {
                self.settle().await?;
                let kept = self.context.ledger.freeze(Act::Batch { agent, batch: incoming }).await;
                kept.map_err(|source| End::Commit { stream, source })?;
                return self.answer_kept(stream, Some(k), hash, &CommitError::Fork { stream, k }).await;
            }
        }
        let quarantined = incoming.records.iter().filter(|record| record.facets.is_err()).count();
        if quarantined > 0 {
            let reason = incoming.records.iter().find_map(|record| record.facets.as_ref().err()).map(quarantine_text);
            let reason = reason.unwrap_or_default();
            tracing::warn!(agent = %self.party.agent(), %stream, k, quarantined, reason, "records are quarantined");
            let details = json!({ "stream": stream.to_string(), "batch": k });
            let count = u64::try_from(quarantined).unwrap_or(u64::MAX);
            let address = self.address.ip().to_string();
            self.context.events.notice(Noticed::QuarantineRecords, &self.party, &address, count, &reason, details).await;
        }
        if self.behind.is_some() {
            let ledger = self.context.ledger.clone();
            let committed = blocking(move || ledger.committed(stream, k).map_err(End::Ledger)).await?;
            if committed.is_none_or(|committed| committed.hash != incoming.hash) {
                let agent = self.party.agent();
                return self.freeze(Act::Batch { agent, batch: incoming }, stream, k).await;
            }
        }
        let put = Put { stream, k, hash: incoming.hash, haste };
        let pending = self.context.ledger.put(incoming).await;
        let pending: Pending = pending.map_err(|source| End::Commit { stream, source })?;
        self.pending.push_back(Box::pin(async move {
            let committed = pending.committed().await;
            drop(room);
            (committed, put)
        }));
        if let (Some(head), Some(tracked)) = (head, self.streams.get_mut(&stream)) {
            tracked.verifier = Verifier::resume(head);
        }
        Ok(())
    }

    /// Keeps receipts of other collectors that the sender shows, of all or only the one that a header names. What no
    /// collector of this home has signed is nothing.
    async fn know(&mut self, shown: impl Iterator<Item = &Bytes>, named: Option<Hash>) -> Result<(), End> {
        let shown: Vec<&Bytes> = shown.take(STREAMS_MAX).filter(|receipt| !receipt.is_empty()).collect();
        if shown.is_empty() {
            return Ok(());
        }
        let keys = self.context.trust.receipt_keys();
        for receipt in shown.into_iter().filter_map(|receipt| keys.verify(receipt).ok()) {
            if named.is_none() {
                self.note_own(&receipt).await?;
            }
            let is_named = named.is_none_or(|named| named == receipt.message_hash());
            if is_named && receipt.key != self.context.ledger.signs_as() {
                let stream = receipt.stream;
                self.context.ledger.know(receipt).await.map_err(|source| End::Commit { stream, source })?;
            }
        }
        Ok(())
    }

    /// A verified receipt: of this collector's own for what it does not hold, it shows that it was restored. Nothing is
    /// signed before it has a new key.
    async fn note_own(&mut self, receipt: &Receipt) -> Result<(), End> {
        if receipt.key != self.context.ledger.signs_as() {
            return Ok(());
        }
        let noted = self.context.note_restore(receipt.clone()).await;
        noted.map_err(|error| End::Restored(Box::new(error)))
    }

    /// A relay's session outlives the joins of its agent.
    async fn hear_of_joins(&mut self) -> Result<(), End> {
        let (trust, agent) = (Arc::clone(&self.context.trust), self.party.agent());
        let joined = blocking(move || trust.joined_ns(&PeerId::Agent(agent)).map_err(End::Control)).await?;
        self.joined_ns = joined.unwrap_or(0);
        Ok(())
    }

    /// Knows the stream from here on, if it is on record, the agent's own, and not the collector's.
    async fn track(&mut self, stream: StreamId) -> Result<(), End> {
        if self.streams.contains_key(&stream) {
            return Ok(());
        }
        let ledger = self.context.ledger.clone();
        let state: Option<StreamState> = blocking(move || ledger.stream(stream).map_err(End::Ledger)).await?;
        let Some(state) = state else {
            return Err(End::Commit { stream, source: CommitError::Unknown { stream } });
        };
        if state.info.agent != self.party.agent() {
            return Err(End::OtherAgent { stream });
        }
        if state.info.internal {
            return Err(End::Resume(resume::ResumeError::Internal { agent: state.info.agent }));
        }
        if state.is_frozen() {
            let source = CommitError::Frozen { agent: state.info.agent };
            return Err(End::Commit { stream, source });
        }
        if self.streams.len() >= STREAMS_MAX {
            self.streams.clear();
        }
        self.streams.insert(stream, Tracked { info: state.info, verifier: Verifier::resume(state.head) });
        Ok(())
    }

    /// The ledger has answered for a batch.
    fn committed(&mut self, committed: Result<Committed, CommitError>, put: Put) -> Result<(), End> {
        match committed {
            Ok(committed) => self.receipts.committed(committed, put.haste),
            // Its receipt was lost on the way: it is sent again at once, and covers what is behind it.
            Err(CommitError::Duplicate(committed)) => self.receipts.committed(committed, Haste::Now),
            Err(why) if self.party.is_relay() && is_of_a_fork(&why) => {
                // Whatever was known of the agent's streams: they are frozen now.
                self.streams.clear();
                self.kept.push((put, why));
            }
            Err(source) => return Err(End::Commit { stream: put.stream, source }),
        }
        Ok(())
    }

    async fn send_due_receipts(&mut self) -> Result<(), End> {
        self.answer_branches().await?;
        for committed in self.receipts.due(Instant::now()) {
            self.send_receipt(&committed).await?;
        }
        Ok(())
    }

    async fn send_receipt(&mut self, committed: &Committed) -> Result<(), End> {
        let receipt = self.context.ledger.sign(committed);
        self.answer(from_collector::Message::Receipt(receipt.encode().into())).await
    }

    async fn answer(&mut self, message: from_collector::Message) -> Result<(), End> {
        let message = wire::FromCollector { message: Some(message) };
        self.answers.send(Ok(message)).await.map_err(|_| End::Closed)
    }

    /// Answers what is committed, says why the session ends, and logs it: the one place where it is handled.
    async fn finish(&mut self, end: End) {
        let agent = self.party.agent();
        let patience = Duration::from_secs(2);
        let last = async {
            // What is put will be committed whatever happens here; the agent is spared sending it again.
            while let Some((committed, put)) = self.pending.next().await {
                if self.committed(committed, put).is_err() {
                    break;
                }
            }
            for committed in self.receipts.all() {
                self.send_receipt(&committed).await?;
            }
            self.say(&end).await
        };
        // A peer that does not read its answers is let go.
        let said = tokio::time::timeout(patience, last).await;
        let cause = std::error::Error::source(&end).map(|cause| match cause.source() {
            Some(inner) => format!("{cause}: {inner}"),
            None => cause.to_string(),
        });
        if end.is_fault() {
            tracing::warn!(%agent, address = %self.address, reason = %end, cause, said = said.is_ok(), "session refused");
            let forked = matches!(&end, End::Commit { source: CommitError::Fork { .. }, .. });
            let noticed = if forked { Noticed::DetectFork } else { Noticed::RefuseAgent };
            let address = self.address.ip().to_string();
            self.context.events.notice(noticed, &self.party, &address, 1, &end.public_text(), json!({})).await;
        } else {
            tracing::info!(%agent, address = %self.address, reason = %end, cause, "agent detached");
        }
    }

    async fn say(&mut self, end: &End) -> Result<(), End> {
        let status = match end.answer() {
            Answer::Message(message) => return self.answer(message).await,
            Answer::Status(status) => status,
            Answer::Nothing => return Ok(()),
        };
        self.answers.send(Err(status)).await.map_err(|_| End::Closed)
    }
}

fn quarantine_text(quarantine: &Quarantine) -> String {
    match quarantine {
        Quarantine::NotJson(reason) => reason.clone(),
        Quarantine::OverLimit { bytes } => format!("a record of {bytes} bytes"),
        Quarantine::OutsideBinding { account, region } => format!("a record of {account}/{region}"),
        Quarantine::NotTheCollectors => "a record in the collector's name".to_owned(),
    }
}

/// Work that blocks or computes, off the runtime.
async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, End> + Send + 'static) -> Result<T, End> {
    tokio::task::spawn_blocking(call).await.map_err(|_| End::Verification)?
}

/// The next message, read no sooner than the agent's rate allows.
async fn next_message_from(paced: Instant, inbound: &mut Streaming<wire::FromAgent>) -> Result<from_agent::Message, End> {
    if paced > Instant::now() {
        tokio::time::sleep_until(paced).await;
    }
    next_message(inbound).await
}

async fn next_message(inbound: &mut Streaming<wire::FromAgent>) -> Result<from_agent::Message, End> {
    let message = inbound.message().await.map_err(|status| End::Broken(Box::new(status)))?.ok_or(End::Closed)?;
    message.message.ok_or(End::Protocol("an empty message, or one of a later version"))
}

/// Returns once the peer is revoked.
async fn revoked(mut revoked: watch::Receiver<Revoked>, peer: &PeerId) {
    if revoked.wait_for(|revoked| revoked.contains(peer)).await.is_err() {
        // Whoever knew is gone: the collector stops, and says so to every session by itself.
        std::future::pending::<()>().await;
    }
}

/// Returns once home has said that the agent's streams have forked.
async fn shut_out(mut forked: watch::Receiver<BTreeSet<AgentId>>, peer: PeerId) {
    let is_shut_out = |forked: &BTreeSet<AgentId>| matches!(&peer, PeerId::Agent(agent) if forked.contains(agent));
    if forked.wait_for(is_shut_out).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns once the certificate has ended. Looked at now and then: clocks step, and a certificate may be renewed.
async fn expired(mut not_after: watch::Receiver<i64>) {
    loop {
        let end = UNIX_EPOCH + Duration::from_secs(u64::try_from(*not_after.borrow_and_update()).unwrap_or(0));
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(EXPIRY_LOOK_INTERVAL)) => {}
            Ok(()) = not_after.changed() => {}
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

fn unix_ns(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
