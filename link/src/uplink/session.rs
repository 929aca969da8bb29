//! One session: from the resume to the first thing that goes wrong.
//!
//! Two halves run beside one another and share only what is in flight. The sending half walks the streams, oldest
//! first: the open where it is not recorded yet, then one batch after another while the window has room. The receiving
//! half verifies and stores receipts. Batches of a stream are sent in order and without gaps.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use edgetrail_proto::chain::{Hash, Header, Receipt, Seal};
use edgetrail_proto::identity::StreamId;
use edgetrail_proto::limits::{BATCHES_NAMED_MAX, STREAMS_NAMED_MAX};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;

use super::course::{Course, course, relayed_course};
use super::shown::Shown;
use super::{ConnectError, Credentials, Endpoint, ReceiptSeen, Status, WaitingStream, backoff, connect};
use crate::body::Encoder;
use crate::outbox::{
    Branch, BranchAct, CollectorPosition, HeldStream, Opening, Outbox, OutboxError, OutgoingBatch, OutgoingBody, Reconciled,
};
use crate::receipt_keys::{RECEIPT_KEYS_MAX, ReceiptKey, ReceiptKeyError, ReceiptKeys};
use crate::transport::Dial;
use crate::wire::{self, from_agent, from_collector};

/// Most batches in flight, whatever the collector allows: at 100 ms of round trip and full batches, 160 MiB/s.
const WINDOW_MAX: usize = 16;

/// Messages made and not yet on the wire. Small: each may be a compressed MiB.
const QUEUE_MESSAGES: usize = 2;

/// A collector answers a resume and an open out of its head; later than this, something is wrong with it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A stream that the collector does not take up yet is asked for again after this, and up to as much again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// After a fork, what is sealed is shown for so long: some batches of a busy host. What an idle one seals, the next
/// session shows.
const SHOW_TIME_MAX: Duration = Duration::from_secs(5);

/// Longest text of a refusal that is kept.
const REFUSAL_CHARS_MAX: usize = 1024;

/// Why a session ended without a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// Stopped, and everything that could be sent has its receipt.
    Drained,
    /// Something moved on one side: name everything again.
    Resume,
    /// The credentials are for another key than the connection's.
    HandOver,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the collector can't be reached")]
    Connect(#[source] ConnectError),
    #[error("the collector ended the session")]
    Ended(#[source] Box<tonic::Status>),
    #[error("the connection was closed")]
    Closed,
    #[error("the collector did not answer within {ANSWER_TIME_MAX:?}")]
    Unanswered,
    #[error("the collector refused ({reason:?}): {message}")]
    Refused { reason: wire::RefusalReason, message: String },
    #[error("the collector holds another branch of stream {stream}; join again with a token")]
    Forked { stream: StreamId },
    #[error("stream {stream} ends in a fork; its agent has joined again and goes on in another")]
    Rejoined { stream: StreamId },
    #[error("the collector's message is not what the protocol allows here: {0}")]
    Protocol(&'static str),
    #[error("a receipt can't be trusted")]
    Receipt(#[source] ReceiptKeyError),
    #[error("the sender's store failed")]
    Outbox(#[source] OutboxError),
    #[error("the compressor can't be set up")]
    Compressor(#[source] std::io::Error),
    #[error("a call to the sender's store ended in a panic")]
    Panicked,
}

/// Whether a session got anything done (an open recorded, a receipt stored): decides how soon the next one follows.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicBool);

impl Progress {
    pub(super) fn made(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn make(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy)]
pub(super) struct Session<'a> {
    pub(super) outbox: &'a Arc<dyn Outbox>,
    pub(super) dial: &'a Arc<dyn Dial>,
    pub(super) credentials: &'a Credentials,
    /// What replaces `credentials` while the session runs; the version of now is seen.
    pub(super) renewals: &'a watch::Receiver<Arc<Credentials>>,
    pub(super) agent_version: &'a str,
    pub(super) status: &'a watch::Sender<Status>,
    /// What the collector was shown of a branch, in this session and before.
    pub(super) shown: &'a Shown,
    pub(super) stop: &'a CancellationToken,
}

/// What both halves know.
#[derive(Debug, Default)]
struct Flight {
    /// Sent and without a receipt, in the order of sending.
    batches: VecDeque<(StreamId, u64)>,
    /// Opens that the collector has recorded in this session, and whether as superseded.
    opened: HashMap<StreamId, bool>,
    /// What it answered to evidence, until it is asked again.
    taken_up: HashMap<StreamId, TakenUp>,
    /// What it keeps as evidence of a fork, by the hash of header or open.
    kept: HashSet<Hash>,
}

/// What the collector does with a stream of which it lacks batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TakenUp {
    GoesOn { next_k: u64 },
    Waits,
}

/// What the collector says to what goes before a stream's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    Taken,
    Waits,
    /// Recorded as superseded: what of it is still taken, the next positions say.
    Superseded,
    /// It belongs to a fork, and is kept as evidence.
    Kept,
}

/// What becomes of a stream of which nothing more is sent for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    IsDone,
    /// Behind those that wait, which are asked for again.
    GoesOn,
    Waits,
}

type Wire = mpsc::Sender<wire::FromAgent>;

impl Session<'_> {
    pub(super) async fn run(self, endpoint: &Endpoint, progress: &Progress) -> Result<SessionEnd, SessionError> {
        let connecting = connect::channel_over(self.dial, endpoint, Arc::clone(&self.credentials.tls));
        let channel = tokio::select! {
            channel = connecting => channel.map_err(SessionError::Connect)?,
            () = self.stop.cancelled() => return Ok(SessionEnd::Drained),
        };
        self.run_on(channel, endpoint, progress).await
    }

    /// The same over a connection that is open, and that others may share.
    pub(super) async fn run_on(
        self,
        channel: Channel,
        endpoint: &Endpoint,
        progress: &Progress,
    ) -> Result<SessionEnd, SessionError> {
        let mut client = wire::ingest_client::IngestClient::new(channel);
        let (to_collector, queue) = mpsc::channel(QUEUE_MESSAGES);
        let mut held = self.blocking(|outbox| outbox.held()).await?;
        // Of more than a resume may name, the newest: nothing is concluded of a stream that was not named.
        held.drain(..held.len().saturating_sub(STREAMS_NAMED_MAX));
        let kept = self.blocking(|outbox| outbox.receipt_keys()).await?;
        send(&to_collector, from_agent::Message::Resume(self.resume(&held, &kept))).await?;
        let attached = tokio::time::timeout(ANSWER_TIME_MAX, client.attach(ReceiverStream::new(queue)));
        let attached = attached.await.map_err(|_| SessionError::Unanswered)?.map_err(ended)?;
        let mut inbound = attached.into_inner();
        let end = self.converse(endpoint, held, &to_collector, &mut inbound, progress).await;
        if matches!(end, Err(SessionError::Forked { .. })) && self.outbox.relayed().is_none() {
            self.show_branch(&to_collector, &mut inbound).await;
        }
        end
    }

    /// From the collector's answer on, until something ends it.
    async fn converse(
        &self,
        endpoint: &Endpoint,
        held: Vec<HeldStream>,
        to_collector: &Wire,
        inbound: &mut Streaming<wire::FromCollector>,
        progress: &Progress,
    ) -> Result<SessionEnd, SessionError> {
        let resumed = match tokio::time::timeout(ANSWER_TIME_MAX, next_message(inbound)).await {
            Err(_) => return Err(SessionError::Unanswered),
            Ok(message) => match message? {
                from_collector::Message::Resumed(resumed) => resumed,
                from_collector::Message::Refusal(refusal) => return Err(self.refused(refusal).await),
                _ => return Err(SessionError::Protocol("a resume is answered by resumed")),
            },
        };
        let (keys, courses) = match self.take_up(&resumed, held).await? {
            Some(taken_up) => taken_up,
            None => return Ok(SessionEnd::Resume),
        };
        let window = usize::try_from(resumed.window).unwrap_or(WINDOW_MAX).clamp(1, WINDOW_MAX);
        self.status.send_modify(|status| {
            status.connected = Some(endpoint.clone());
            status.connected_since = Some(SystemTime::now());
            status.trouble = None;
            status.forked = false;
        });
        tracing::info!(%endpoint, streams = courses.len(), window, "resumed");

        let (flight, _) = watch::channel(Flight::default());
        tokio::select! {
            end = self.send_courses(courses, window, to_collector, &flight) => end,
            end = self.receive(inbound, &keys, &flight, progress) => end,
            end = self.show_renewals(to_collector) => end,
        }
    }

    /// Told of a fork, shows what this party goes on sealing: nothing of it is committed, all of it is evidence. Until the
    /// collector has heard enough.
    async fn show_branch(&self, to_collector: &Wire, inbound: &mut Streaming<wire::FromCollector>) {
        let heard = async { while next_message(inbound).await.is_ok() {} };
        let shown = tokio::select! {
            shown = tokio::time::timeout(SHOW_TIME_MAX, self.send_branch(to_collector)) => shown.unwrap_or(Ok(())),
            () = heard => Ok(()),
            () = self.stop.cancelled() => Ok(()),
        };
        if let Err(error) = shown {
            tracing::debug!(error = &error as &dyn std::error::Error, "the branch could not be shown");
        }
    }

    async fn send_branch(&self, to_collector: &Wire) -> Result<(), SessionError> {
        let mut encoder = Encoder::new().map_err(SessionError::Compressor)?;
        let mut changes = self.outbox.changes();
        loop {
            // Before the store is asked: what happens from here on wakes the wait below.
            changes.borrow_and_update();
            for held in self.blocking(|outbox| outbox.held()).await? {
                let stream = held.stream;
                for k in self.shown.rest(stream, &held.unreceipted) {
                    let (batch, back) = self.blocking(move |outbox| load(outbox, stream, k, encoder)).await?;
                    encoder = back;
                    let Some(batch) = batch else { break };
                    send(to_collector, from_agent::Message::Batch(batch)).await?;
                    self.shown.note(stream, k);
                }
            }
            changes.changed().await.map_err(|_| SessionError::Closed)?;
        }
    }

    /// Shows the collector each certificate that renews the connection's own; ends when another key has replaced it.
    async fn show_renewals(&self, to_collector: &Wire) -> Result<SessionEnd, SessionError> {
        let mut renewals = self.renewals.clone();
        loop {
            if renewals.changed().await.is_err() {
                // Nobody renews any more: the agent stops, and says so by itself.
                std::future::pending::<()>().await;
            }
            let renewed = Arc::clone(&renewals.borrow_and_update());
            if !renewed.is_for_the_key_of(self.credentials) {
                return Ok(SessionEnd::HandOver);
            }
            let certificate_chain = renewed.chain.iter().map(|certificate| certificate.to_vec().into()).collect();
            send(to_collector, from_agent::Message::Renewed(wire::Renewed { certificate_chain })).await?;
            tracing::debug!("the session goes on under the renewed certificate");
        }
    }

    /// Names everything; of the batches the newest, where there are more than a message holds.
    fn resume(&self, held: &[HeldStream], kept: &[ReceiptKey]) -> wire::Resume {
        let mut room = BATCHES_NAMED_MAX;
        let mut streams: Vec<wire::HeldStream> = held
            .iter()
            .rev()
            .map(|stream| {
                let named = stream.unreceipted.len().min(room);
                room -= named;
                wire::HeldStream {
                    opening: Some(opening_to_wire(&stream.opening)),
                    last_receipted: stream.last_receipted.as_ref().map(receipted_to_wire),
                    unreceipted: stream
                        .unreceipted
                        .iter()
                        .skip(stream.unreceipted.len() - named)
                        .map(|(k, hash)| wire::NamedBatch { k: *k, hash: hash.0.to_vec().into() })
                        .collect(),
                }
            })
            .collect();
        streams.reverse();
        let agent_id = self.outbox.relayed().map(|agent| agent.as_bytes().to_vec().into()).unwrap_or_default();
        let mut receipt_keys: Vec<wire::ReceiptKey> = Vec::new();
        for signer in held.iter().filter_map(|stream| stream.last_receipted.as_ref()).map(|(_, _, receipt)| receipt.key) {
            let kept = kept.iter().find(|key| Hash::of(&key.public_key.0) == signer);
            let stated = kept.or_else(|| self.credentials.receipt_keys.named(&signer)).map(ReceiptKey::to_wire);
            receipt_keys.extend(stated.filter(|stated| !receipt_keys.contains(stated)));
        }
        wire::Resume { agent_version: self.agent_version.to_owned(), streams, agent_id, receipt_keys }
    }

    /// Stores the receipts that came with the positions, lets the store compare, and plans what is to be sent.
    /// `None` where the store opened a successor.
    async fn take_up(
        &self,
        resumed: &wire::Resumed,
        held: Vec<HeldStream>,
    ) -> Result<Option<(ReceiptKeys, VecDeque<Course>)>, SessionError> {
        let mut keys = self.credentials.receipt_keys.clone();
        if resumed.receipt_keys.len() > RECEIPT_KEYS_MAX || resumed.streams.len() > 2 * STREAMS_NAMED_MAX {
            return Err(SessionError::Protocol("an answer is no longer than what was named and what a home has"));
        }
        for key in &resumed.receipt_keys {
            let taken = ReceiptKey::from_wire(key).and_then(|key| match keys.holds(&key.public_key) {
                // While the root is being replaced, each key comes with one statement a root.
                true => Ok(None),
                false => keys.add(key.clone(), &self.credentials.roots).map(|()| Some(key)),
            });
            match taken {
                Ok(None) => {}
                Ok(Some(key)) => self.blocking(move |outbox| outbox.keep_receipt_key(&key)).await?,
                Err(error) => tracing::warn!(%error, "a receipt key that the collector offers is not taken"),
            }
        }
        let mut positions = Vec::with_capacity(resumed.streams.len());
        for position in &resumed.streams {
            if !position.receipt.is_empty() {
                self.store_receipt(&position.receipt, &keys).await?;
            }
            positions.push(position_from_wire(position)?);
        }
        let latest = match resumed.latest_stream.as_ref() {
            [] => None,
            bytes => Some(stream_from_wire(bytes)?),
        };
        let compared = positions.clone();
        if self.blocking(move |outbox| outbox.reconcile(latest, &compared)).await? == Reconciled::Successor {
            return Ok(None);
        }
        let courses = self.blocking(move |outbox| courses(outbox, held, positions)).await?;
        Ok(Some((keys, courses)))
    }

    async fn send_courses(
        &self,
        mut courses: VecDeque<Course>,
        window: usize,
        to_collector: &Wire,
        flight: &watch::Sender<Flight>,
    ) -> Result<SessionEnd, SessionError> {
        let mut encoder = Encoder::new().map_err(SessionError::Compressor)?;
        let mut changes = self.outbox.changes();
        // The change up to which streams were looked for.
        let mut looked = None;
        let mut waiting: Vec<Course> = Vec::new();
        let mut ask_at = Instant::now();
        loop {
            let Some(mut course) = courses.pop_front() else {
                // Nothing may be sent: until one of those that wait is taken up, or another stream is opened.
                let Some(last) = waiting.last().map(|course| course.stream) else { break };
                tokio::select! {
                    () = tokio::time::sleep_until(ask_at) => {}
                    () = self.stop.cancelled() => return self.drained(flight).await,
                }
                courses.extend(waiting.drain(..));
                courses.extend(self.opened_after(last).await?);
                continue;
            };
            match self.begin(&mut course, to_collector, flight).await? {
                Begun::Taken => {}
                Begun::Waits => {
                    if waiting.is_empty() {
                        ask_at = Instant::now() + backoff::jittered(ASK_AGAIN);
                    }
                    waiting.push(course);
                    continue;
                }
                // What follows it is evidence too, or comes in another stream: the positions say so.
                Begun::Superseded | Begun::Kept => return self.drained(flight).await.map(|_| SessionEnd::Resume),
            }
            if !course.missing.is_empty() {
                let (sent, back) = self.send_missing(&mut course, window, to_collector, flight, encoder).await?;
                encoder = back;
                if sent {
                    // What it still lacks, it alone can say.
                    return self.drained(flight).await.map(|_| SessionEnd::Resume);
                }
            }
            let mut then = Then::IsDone;
            while course.bound.is_none_or(|bound| course.next_k <= bound) {
                let room = flight.subscribe().wait_for(|flight| flight.batches.len() < window).await.is_ok();
                if !room {
                    return Err(SessionError::Closed);
                }
                // Before the store is asked: what happens from here on wakes the wait below.
                let change = *changes.borrow_and_update();
                let (stream, k) = (course.stream, course.next_k);
                let (encoded, back) = self.blocking(move |outbox| load(outbox, stream, k, encoder)).await?;
                encoder = back;
                if let Some(batch) = encoded {
                    flight.send_modify(|flight| flight.batches.push_back((stream, k)));
                    self.status.send_modify(|status| status.in_flight = flight.borrow().batches.len());
                    send(to_collector, from_agent::Message::Batch(batch)).await?;
                    course.next_k += 1;
                    continue;
                }
                // Behind a hole in what is held the collector is shown what bridges it.
                if let Some(run) = self.blocking(move |outbox| outbox.next_run(stream, k)).await? {
                    course.take_up = Some(run.evidence);
                    match self.begin(&mut course, to_collector, flight).await? {
                        Begun::Taken => {}
                        Begun::Waits => {
                            then = Then::Waits;
                            break;
                        }
                        Begun::Superseded | Begun::Kept => return self.drained(flight).await.map(|_| SessionEnd::Resume),
                    }
                    // A collector that goes on where it was asked before would be asked for ever.
                    if course.next_k > k {
                        continue;
                    }
                }
                // Nothing more of this stream now. An earlier one is done; the current one waits for its next batch.
                if !courses.is_empty() {
                    break;
                }
                if self.show_branches(to_collector, flight).await? {
                    return Ok(SessionEnd::Resume);
                }
                if self.stop.is_cancelled() {
                    return self.drained(flight).await;
                }
                // A successor can have been opened since: it follows in this session.
                if looked.replace(change) != Some(change)
                    && let Some(successors) = self.successors(stream, k).await?
                {
                    courses.extend(successors);
                    break;
                }
                tokio::select! {
                    changed = changes.changed() => changed.map_err(|_| SessionError::Closed)?,
                    () = self.stop.cancelled() => {}
                    () = tokio::time::sleep_until(ask_at), if !waiting.is_empty() => {
                        then = Then::GoesOn;
                        break;
                    }
                }
            }
            match then {
                Then::IsDone => {}
                Then::GoesOn => {
                    courses.extend(waiting.drain(..));
                    courses.push_back(course);
                }
                Then::Waits => {
                    if waiting.is_empty() {
                        ask_at = Instant::now() + backoff::jittered(ASK_AGAIN);
                    }
                    waiting.push(course);
                    continue;
                }
            }
            if courses.is_empty() && waiting.is_empty() {
                // Beyond its bound: the successor that follows is not known yet.
                break;
            }
        }
        if self.show_branches(to_collector, flight).await? {
            return Ok(SessionEnd::Resume);
        }
        // No stream that may be sent: wait until one is opened.
        tokio::select! {
            changed = changes.changed() => changed.map(|()| SessionEnd::Resume).map_err(|_| SessionError::Closed),
            () = self.stop.cancelled() => self.drained(flight).await,
        }
    }

    /// What the collector lacks below its head and the sender holds. Whether anything was sent.
    async fn send_missing(
        &self,
        course: &mut Course,
        window: usize,
        to_collector: &Wire,
        flight: &watch::Sender<Flight>,
        mut encoder: Encoder,
    ) -> Result<(bool, Encoder), SessionError> {
        let (stream, mut sent) = (course.stream, false);
        for (from, to) in std::mem::take(&mut course.missing) {
            let mut k = from;
            while k <= to {
                flight.subscribe().wait_for(|flight| flight.batches.len() < window).await.map_err(|_| SessionError::Closed)?;
                let (encoded, back) = self.blocking(move |outbox| load(outbox, stream, k, encoder)).await?;
                encoder = back;
                if let Some(batch) = encoded {
                    flight.send_modify(|flight| flight.batches.push_back((stream, k)));
                    send(to_collector, from_agent::Message::Batch(batch)).await?;
                    (sent, k) = (true, k.saturating_add(1));
                    continue;
                }
                let run = self.blocking(move |outbox| outbox.next_run(stream, k)).await?;
                let Some((run, first)) = run.and_then(|run| run.first.map(|first| (run, first))) else { break };
                if first > to || first <= k {
                    break;
                }
                // Behind a hole it is the receipt for the batch before that vouches for this one.
                let mut bridge = Course {
                    stream,
                    opening: None,
                    take_up: Some(run.evidence),
                    next_k: first,
                    bound: None,
                    missing: Vec::new(),
                };
                if self.begin(&mut bridge, to_collector, flight).await? != Begun::Taken {
                    break;
                }
                k = first;
            }
        }
        Ok((sent, encoder))
    }

    /// Shows the collector what is held of the agent's forks, one after the other: whether there was anything. What it makes
    /// of it, the positions of the next resume say.
    async fn show_branches(&self, to_collector: &Wire, flight: &watch::Sender<Flight>) -> Result<bool, SessionError> {
        let mut shown = false;
        while let Some(Branch { stream, hash, act, refused }) = self.blocking(|outbox| outbox.next_of_branches()).await? {
            // It stands against what the collector holds by then.
            self.drained(flight).await?;
            let mut sealed = None;
            let message = match act {
                BranchAct::Opened(opening) => {
                    from_agent::Message::Opening(wire::Opening { fork: refused, ..opening_to_wire(&opening) })
                }
                BranchAct::Showed(evidence) => {
                    flight.send_modify(|flight| flight.taken_up.retain(|of, _| *of != stream));
                    from_agent::Message::TakeUp(wire::TakeUp { evidence: Some(receipted_to_wire(&evidence)) })
                }
                BranchAct::Sealed(batch) => {
                    sealed = Some((stream, batch.header.k));
                    flight.send_modify(|flight| flight.batches.push_back((stream, batch.header.k)));
                    let batch = encoded(*batch, &mut Encoder::new().map_err(SessionError::Compressor)?);
                    from_agent::Message::Batch(wire::Batch { fork: refused, ..batch })
                }
            };
            send(to_collector, message).await?;
            let answer = |flight: &Flight| {
                let taken = match sealed {
                    Some(sealed) => !flight.batches.contains(&sealed),
                    None => flight.opened.contains_key(&stream) || flight.taken_up.contains_key(&stream),
                };
                (taken || flight.kept.contains(&hash)).then_some(())
            };
            self.answered(flight, answer).await?;
            // Where the collector has committed it, that is as good.
            self.blocking(move |outbox| outbox.kept(stream, hash)).await?;
            shown = true;
        }
        Ok(shown)
    }

    /// What goes before a stream's batches: its open where it is not recorded, the evidence where batches are missing.
    async fn begin(
        &self,
        course: &mut Course,
        to_collector: &Wire,
        flight: &watch::Sender<Flight>,
    ) -> Result<Begun, SessionError> {
        let stream = course.stream;
        if let Some(opening) = course.opening.take() {
            let hash = Hash::of(&opening.open);
            send(to_collector, from_agent::Message::Opening(opening_to_wire(&opening))).await?;
            // What a relay holds is the only copy: no successor's open stops it.
            let is_relayed = self.outbox.relayed().is_some();
            let answer = |flight: &Flight| match flight.opened.get(&stream) {
                Some(superseded) if *superseded && !is_relayed => Some(Begun::Superseded),
                Some(_) => Some(Begun::Taken),
                None => flight.kept.contains(&hash).then_some(Begun::Kept),
            };
            match self.answered(flight, answer).await? {
                Begun::Taken => {}
                begun => return Ok(begun),
            }
        }
        let Some(evidence) = &course.take_up else { return Ok(Begun::Taken) };
        let hash = evidence.2.head;
        flight.send_modify(|flight| flight.taken_up.retain(|of, _| *of != stream));
        let evidence = Some(receipted_to_wire(evidence.as_ref()));
        send(to_collector, from_agent::Message::TakeUp(wire::TakeUp { evidence })).await?;
        let answer = |flight: &Flight| match flight.kept.contains(&hash) {
            true => Some(None),
            false => flight.taken_up.get(&stream).copied().map(Some),
        };
        match self.answered(flight, answer).await? {
            None => Ok(Begun::Kept),
            Some(TakenUp::Waits) => Ok(Begun::Waits),
            Some(TakenUp::GoesOn { next_k }) => {
                course.take_up = None;
                course.next_k = next_k;
                self.status.send_modify(|status| status.waiting.retain(|waiting| waiting.stream != stream));
                Ok(Begun::Taken)
            }
        }
    }

    /// Waits for what the receiving half hears.
    async fn answered<T>(
        &self,
        flight: &watch::Sender<Flight>,
        answer: impl Fn(&Flight) -> Option<T>,
    ) -> Result<T, SessionError> {
        let mut heard = flight.subscribe();
        let waited = tokio::time::timeout(ANSWER_TIME_MAX, heard.wait_for(|flight| answer(flight).is_some())).await;
        let flight = waited.map_err(|_| SessionError::Unanswered)?.map_err(|_| SessionError::Closed)?;
        answer(&flight).ok_or(SessionError::Closed)
    }

    /// Streams that were opened after `stream`.
    async fn opened_after(&self, stream: StreamId) -> Result<Vec<Course>, SessionError> {
        let later = self.blocking(move |outbox| {
            let held = outbox.held()?;
            let later = held.iter().position(|held| held.stream == stream).map_or(0, |at| at + 1);
            courses(outbox, held.into_iter().skip(later).collect(), Vec::new())
        });
        Ok(later.await?.into())
    }

    /// Streams opened after `stream` in this session, once `stream` has nothing more to send.
    async fn successors(&self, stream: StreamId, next_k: u64) -> Result<Option<Vec<Course>>, SessionError> {
        let successors = self.blocking(move |outbox| {
            let held = outbox.held()?;
            let later = held.iter().position(|held| held.stream == stream).map_or(0, |at| at + 1);
            let successors: Vec<HeldStream> = held.into_iter().skip(later).collect();
            // Asked in this order: once a successor is there, its predecessor seals nothing more.
            let done = !successors.is_empty() && outbox.batch(stream, next_k)?.is_none();
            if done { courses(outbox, successors, Vec::new()).map(Some) } else { Ok(None) }
        });
        Ok(successors.await?.map(Vec::from))
    }

    async fn drained(&self, flight: &watch::Sender<Flight>) -> Result<SessionEnd, SessionError> {
        let all = flight.subscribe().wait_for(|flight| flight.batches.is_empty()).await.is_ok();
        if all { Ok(SessionEnd::Drained) } else { Err(SessionError::Closed) }
    }

    async fn receive(
        &self,
        inbound: &mut Streaming<wire::FromCollector>,
        keys: &ReceiptKeys,
        flight: &watch::Sender<Flight>,
        progress: &Progress,
    ) -> Result<SessionEnd, SessionError> {
        loop {
            match next_message(inbound).await? {
                from_collector::Message::Receipt(encoded) => {
                    let (stream, k) = self.store_receipt(&encoded, keys).await?;
                    progress.make();
                    flight.send_modify(|flight| {
                        // Cumulative: it covers everything of its stream up to k.
                        flight.batches.retain(|(sent, sent_k)| *sent != stream || *sent_k > k);
                    });
                    self.status.send_modify(|status| status.in_flight = flight.borrow().batches.len());
                }
                from_collector::Message::Opened(opened) => {
                    let stream = stream_from_wire(&opened.stream)?;
                    progress.make();
                    flight.send_modify(|flight| flight.opened.extend([(stream, opened.superseded)]));
                }
                from_collector::Message::TakenUp(taken_up) => {
                    let stream = stream_from_wire(&taken_up.stream)?;
                    let next_k = taken_up.head.map_or(0, |head| head.k.saturating_add(1));
                    progress.make();
                    flight.send_modify(|flight| flight.taken_up.extend([(stream, TakenUp::GoesOn { next_k })]));
                }
                from_collector::Message::Wait(wait) => {
                    let waiting = waiting_from_wire(&wait)?;
                    self.note_waiting(waiting);
                    flight.send_modify(|flight| flight.taken_up.extend([(waiting.stream, TakenUp::Waits)]));
                }
                from_collector::Message::Kept(kept) => {
                    let hash = Hash::from_slice(&kept.hash).ok_or(SessionError::Protocol("a hash is 32 bytes long"))?;
                    let stream = stream_from_wire(&kept.stream)?;
                    self.blocking(move |outbox| outbox.kept(stream, hash)).await?;
                    progress.make();
                    flight.send_modify(|flight| {
                        flight.kept.insert(hash);
                        flight.batches.retain(|(sent, k)| *sent != stream || Some(*k) != kept.k);
                    });
                }
                from_collector::Message::Expect(expect) => {
                    let head = expect.head.map(|head| head.k);
                    tracing::info!(stream = ?stream_from_wire(&expect.stream)?, ?head, "the collector stands elsewhere");
                    return Ok(SessionEnd::Resume);
                }
                from_collector::Message::Refusal(refusal) => return Err(self.refused(refusal).await),
                from_collector::Message::Resumed(_) => return Err(SessionError::Protocol("resumed comes once")),
            }
        }
    }

    fn note_waiting(&self, waiting: WaitingStream) {
        self.status.send_modify(|status| {
            let known = status.waiting.iter_mut().find(|known| known.stream == waiting.stream);
            if let Some(known) = known {
                *known = waiting;
                return;
            }
            tracing::warn!(
                stream = %waiting.stream, from = waiting.from, to = waiting.to, signer = %waiting.signer,
                "the stream waits: another collector gave a receipt for batches that this one does not hold"
            );
            status.waiting.push(waiting);
        });
    }

    /// Verifies a receipt and makes it durable; only then may anybody act on it.
    async fn store_receipt(&self, encoded: &[u8], keys: &ReceiptKeys) -> Result<(StreamId, u64), SessionError> {
        let receipt = keys.verify(encoded).map_err(SessionError::Receipt)?;
        let (stream, k, t_received) = (receipt.stream, receipt.k, receipt.t_received);
        self.blocking(move |outbox| outbox.store_receipt(&receipt)).await?;
        let seen = ReceiptSeen { stream, k, t_received, seen: SystemTime::now() };
        self.status.send_modify(|status| status.last_receipt = Some(seen));
        Ok((stream, k))
    }

    async fn refused(&self, refusal: wire::Refusal) -> SessionError {
        let reason = refusal.reason();
        if reason != wire::RefusalReason::Fork {
            // It is logged and shown: a sentence, whatever the collector makes of it.
            let message = refusal.message.chars().filter(|c| !c.is_control()).take(REFUSAL_CHARS_MAX).collect();
            return SessionError::Refused { reason, message };
        }
        let stream = match stream_from_wire(&refusal.stream) {
            Ok(stream) => stream,
            Err(error) => return error,
        };
        match self.blocking(move |outbox| outbox.forked(stream)).await {
            Ok(Reconciled::Continue) => SessionError::Forked { stream },
            Ok(Reconciled::Successor) => SessionError::Rejoined { stream },
            Err(error) => error,
        }
    }

    /// A call to the store, off the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Outbox) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, SessionError> {
        let outbox = Arc::clone(self.outbox);
        let called = tokio::task::spawn_blocking(move || call(outbox.as_ref())).await;
        called.map_err(|_| SessionError::Panicked)?.map_err(SessionError::Outbox)
    }
}

/// What is to be sent, by where the collector stands.
fn courses(
    outbox: &dyn Outbox,
    held: Vec<HeldStream>,
    positions: Vec<CollectorPosition>,
) -> Result<VecDeque<Course>, OutboxError> {
    let positions: HashMap<StreamId, CollectorPosition> = positions.into_iter().map(|p| (p.stream, p)).collect();
    if outbox.relayed().is_none() {
        return Ok(held.into_iter().filter_map(|held| course(held, &positions)).collect());
    }
    let mut courses = VecDeque::new();
    for held in held {
        let position = positions.get(&held.stream);
        let next_k = position.map_or(Ok(0), |position| outbox.begins_at(position))?;
        courses.extend(relayed_course(held, position, next_k));
    }
    Ok(courses)
}

/// Reads and compresses one batch, both once, at the time of sending.
fn load(
    outbox: &dyn Outbox,
    stream: StreamId,
    k: u64,
    mut encoder: Encoder,
) -> Result<(Option<wire::Batch>, Encoder), OutboxError> {
    let Some(batch) = outbox.batch(stream, k)? else { return Ok((None, encoder)) };
    Ok((Some(encoded(batch, &mut encoder)), encoder))
}

fn encoded(batch: OutgoingBatch, encoder: &mut Encoder) -> wire::Batch {
    let OutgoingBatch { header, seal, body, caller_waits, named_receipts } = batch;
    let (encoding, body, body_bytes) = match body {
        OutgoingBody::Encoded { encoding, body, bytes } => (encoding, body, bytes),
        OutgoingBody::Plain(body) => {
            let bytes = u32::try_from(body.len()).unwrap_or(u32::MAX);
            let (encoding, body) = encoder.encode(body);
            (encoding, body.into(), bytes)
        }
    };
    wire::Batch {
        header: header.encode().to_vec().into(),
        seal: seal.0.to_vec().into(),
        encoding: encoding.to_wire(),
        body,
        body_bytes,
        caller_waits,
        named_receipts,
        fork: false,
    }
}

async fn send(to_collector: &Wire, message: from_agent::Message) -> Result<(), SessionError> {
    to_collector.send(wire::FromAgent { message: Some(message) }).await.map_err(|_| SessionError::Closed)
}

async fn next_message(inbound: &mut Streaming<wire::FromCollector>) -> Result<from_collector::Message, SessionError> {
    let message = inbound.message().await.map_err(ended)?.ok_or(SessionError::Closed)?;
    message.message.ok_or(SessionError::Protocol("an empty message, or one of a later version"))
}

fn ended(status: tonic::Status) -> SessionError {
    SessionError::Ended(Box::new(status))
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

fn receipted_to_wire((header, seal, receipt): &(Header, Seal, Receipt)) -> wire::LastReceipted {
    wire::LastReceipted {
        header: header.encode().to_vec().into(),
        seal: seal.0.to_vec().into(),
        receipt: receipt.encode().into(),
    }
}

fn stream_from_wire(bytes: &[u8]) -> Result<StreamId, SessionError> {
    let bytes = bytes.try_into().map_err(|_| SessionError::Protocol("a stream id is 16 bytes long"))?;
    Ok(StreamId::from_bytes(bytes))
}

fn waiting_from_wire(wait: &wire::Wait) -> Result<WaitingStream, SessionError> {
    let signer = Hash::from_slice(&wait.signer).ok_or(SessionError::Protocol("a hash is 32 bytes long"))?;
    let (stream, from, to) = (stream_from_wire(&wait.stream)?, wait.missing_from, wait.missing_to);
    Ok(WaitingStream { stream, from, to, signer })
}

fn position_from_wire(position: &wire::StreamPosition) -> Result<CollectorPosition, SessionError> {
    let head = match &position.head {
        Some(head) => {
            let hash = Hash::from_slice(&head.hash).ok_or(SessionError::Protocol("a hash is 32 bytes long"))?;
            Some((head.k, hash))
        }
        None => None,
    };
    let stream = stream_from_wire(&position.stream)?;
    let (recorded, bound, superseded) = (position.recorded, position.bound, position.superseded);
    let missing = position.missing.iter().map(|range| (range.from, range.to)).collect();
    Ok(CollectorPosition { stream, recorded, head, bound, superseded, frozen: position.frozen, missing })
}
