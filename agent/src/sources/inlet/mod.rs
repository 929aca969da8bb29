//! The way in for what is written to a socket without waiting for an answer: syslog, Vault's socket device.
//!
//! Reading never waits for the pipeline: what is read goes into a queue bounded in bytes. A stream's writer is made to
//! wait when it is full, where its source allows that; else what finds no room is counted exactly and declared as a gap.

mod frames;

mod sockets;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::frames::{Frame, Frames};
pub(super) use self::sockets::{Door, Doors};
use super::file::{Format, Line};
use super::lines::Mapping;
use crate::clock::unix_ns;
use crate::observation::{GROUP_MAX, GapCause, Intake, Loss, Observation, Payload, SourceName, Unparsed};

/// Bytes that wait for the pipeline at once: seconds of a busy sender.
const WAITING_BYTES_MAX: usize = if cfg!(test) { 4096 } else { 16 * 1024 * 1024 };

/// What a message costs in the queue beside its bytes.
const MESSAGE_BYTES: usize = 128;

/// One end of the queue; the other is [`Inlet::forward`].
#[derive(Clone, Debug)]
pub(super) struct Inlet {
    source: SourceName,
    mapping: Arc<Mapping>,
    queue: Arc<Mutex<Queue>>,
    filled: Arc<Notify>,
    emptied: Arc<Notify>,
    /// Whether a full queue makes stream writers wait.
    waits: bool,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
    lost: Option<Lost>,
}

/// A message as it came.
#[derive(Debug)]
struct Message {
    frame: Frame,
    peer: Arc<str>,
    time: u64,
}

/// Who wrote a message, as its `path` has it: `tcp://192.0.2.1:514`, and behind it the subject of the certificate that it
/// showed: `tls://192.0.2.1:6514 CN=web-1`.
pub fn peer(path: &str) -> (&str, Option<&str>) {
    let shown = path.starts_with("tls://").then(|| path.split_once(' ')).flatten();
    shown.map_or((path, None), |(peer, subject)| (peer, Some(subject)))
}

/// What found no room since the last gap.
#[derive(Clone, Debug)]
struct Lost {
    count: u64,
    from: u64,
    to: u64,
    evidence: String,
}

impl Inlet {
    pub(super) fn new(source: SourceName, mapping: Arc<Mapping>, waits: bool) -> Self {
        Self { source, mapping, queue: Arc::default(), filled: Arc::default(), emptied: Arc::default(), waits }
    }

    /// Takes a message or counts it as lost: never waits.
    fn offer(&self, frame: Frame, peer: &Arc<str>) {
        if let Err(_lost) = self.try_put(frame, peer) {
            let evidence =
                format!("the queue of the source {} was full: the pipeline or the disk is slower than its writers", self.source);
            self.lose(1, evidence);
        }
    }

    /// Takes a message of a stream; waits for room where the source's writers may be made to.
    async fn put(&self, mut frame: Frame, peer: &Arc<str>) {
        if !self.waits {
            return self.offer(frame, peer);
        }
        loop {
            let emptied = self.emptied.notified();
            match self.try_put(frame, peer) {
                Ok(()) => return,
                Err(back) => frame = back,
            }
            emptied.await;
        }
    }

    fn try_put(&self, frame: Frame, peer: &Arc<str>) -> Result<(), Frame> {
        let bytes = frame.bytes().len() + MESSAGE_BYTES;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // A message alone always finds room, however large.
        if queue.bytes + bytes > WAITING_BYTES_MAX && !queue.messages.is_empty() {
            return Err(frame);
        }
        queue.bytes += bytes;
        queue.messages.push_back(Message { frame, peer: Arc::clone(peer), time: unix_ns() });
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// Counts what is missing; a gap says so in its place.
    fn lose(&self, count: u64, evidence: String) {
        let now = unix_ns();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = queue.lost.get_or_insert(Lost { count: 0, from: now, to: now, evidence });
        (lost.count, lost.to) = (lost.count.saturating_add(count), now);
        drop(queue);
        self.filled.notify_one();
    }

    /// Hands on what comes until the stop, then what is left.
    pub(super) async fn forward(self, intake: Intake, stop: CancellationToken) {
        // Positions of this run, where a message has none of its own: nothing is ever read twice.
        let run = Uuid::new_v4();
        let mut number = 0u64;
        loop {
            let filled = self.filled.notified();
            let group = self.take(&run, &mut number);
            if group.is_empty() {
                if stop.is_cancelled() {
                    return;
                }
                tokio::select! {
                    () = filled => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            self.emptied.notify_waiters();
            if intake.send(group).await.is_err() {
                return;
            }
        }
    }

    fn take(&self, run: &Uuid, number: &mut u64) -> Vec<Observation> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let count = queue.messages.len().min(GROUP_MAX - 1);
        let messages: Vec<Message> = queue.messages.drain(..count).collect();
        let bytes: usize = messages.iter().map(|message| message.frame.bytes().len() + MESSAGE_BYTES).sum();
        queue.bytes = queue.bytes.saturating_sub(bytes);
        // Behind everything that came before the loss.
        let lost = if queue.messages.is_empty() { queue.lost.take() } else { None };
        drop(queue);
        let mut group = Vec::with_capacity(messages.len() + 1);
        for Message { frame, peer, time } in messages {
            let own = self.own_position(&frame);
            let payload = match frame {
                Frame::Whole(bytes) => {
                    Payload::Line(Line { bytes, format: Format::Mapped(Arc::clone(&self.mapping)), path: peer })
                }
                Frame::TooLong(bytes) => {
                    let reason = format!("a message from {peer} of more bytes than are read: only its beginning is here");
                    Payload::Unparsed(Unparsed { bytes: bytes.to_vec(), reason })
                }
                Frame::Cut(bytes) => {
                    let reason = format!("the connection of {peer} ended within a message: only its beginning is here");
                    Payload::Unparsed(Unparsed { bytes: bytes.to_vec(), reason })
                }
            };
            let observation = self.observation(run, number, time, payload);
            group.push(match own {
                Some(position) => Observation { position, ..observation },
                None => observation,
            });
        }
        if let Some(Lost { count, from, to, evidence }) = lost {
            let loss = Loss { cause: GapCause::SourceOverflow, count: Some(count), exact: true, evidence, from, to };
            group.push(self.observation(run, number, to, Payload::Loss(loss)));
        }
        group
    }

    /// What tells a message from all others of its source, where it says so itself: each entry of Vault's holds its request's
    /// id and time, and Vault writes one again whose connection broke. Of syslog two equal messages may be two events.
    fn own_position(&self, frame: &Frame) -> Option<String> {
        let is_unique = self.source == SourceName::Vault && matches!(frame, Frame::Whole(_));
        is_unique.then(|| hex::encode(Sha256::digest(frame.bytes()).get(..16).unwrap_or_default()))
    }

    fn observation(&self, run: &Uuid, number: &mut u64, time: u64, payload: Payload) -> Observation {
        *number += 1;
        Observation { source: self.source, position: format!("{run}:{number}"), time, payload, cursor: None, answer: None }
    }
}

impl Frame {
    const fn bytes(&self) -> &Bytes {
        match self {
            Self::Whole(bytes) | Self::TooLong(bytes) | Self::Cut(bytes) => bytes,
        }
    }
}
