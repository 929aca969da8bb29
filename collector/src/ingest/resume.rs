//! What an agent holds, compared with what the ledger holds: where the agent goes on.

use std::collections::HashSet;

use bytes::Bytes;
use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeys};
use edgetrail_link::wire;
use edgetrail_proto::chain::{Cause, Head, Header, Open, OpenError, Predecessor};
use edgetrail_proto::identity::{AccountId, AgentId, Region, StreamId};
use edgetrail_proto::limits::{BATCHES_NAMED_MAX, STREAMS_NAMED_MAX};

use super::WINDOW;
use crate::ledger::{Bringer, Ledger, LedgerError, StreamState};

/// Why a resume can't be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    #[error("a resume names at most {STREAMS_NAMED_MAX} streams and {BATCHES_NAMED_MAX} batches")]
    TooMuch,
    #[error("a stream that the resume names can't be read")]
    Open(#[source] OpenError),
    #[error("a stream is named without its open")]
    NoOpen,
    #[error("stream {stream} is not of agent {agent}")]
    OtherAgent { stream: StreamId, agent: AgentId },
    /// The internal stream's agent id stands in every proof: whoever joins under it is no agent.
    #[error("agent {agent} is the collector itself")]
    Internal { agent: AgentId },
    /// Two parties hold its state.
    #[error("agent {agent} is frozen after a fork: it must join again with a token")]
    Frozen { stream: StreamId, agent: AgentId },
    #[error("the ledger can't be read")]
    Ledger(#[source] LedgerError),
}

/// What a resume is answered with.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) resumed: wire::Resumed,
    /// The agent is told that it lies behind this stream, which another party opened as one restored: whatever it does
    /// from here on is a second party's doing.
    pub(super) behind: Option<StreamId>,
    /// Streams that the agent holds anything of.
    pub(super) named: HashSet<StreamId>,
    /// The agent's account and region, where a stream of it is on record.
    pub(super) scope: Option<(AccountId, Region)>,
}

/// Answers with the agent's latest stream, and for each named one head, bound and the receipt for the greatest named
/// batch that the ledger holds. Blocks on disk.
pub(super) fn answer(
    ledger: &Ledger,
    agent: AgentId,
    bringer: Bringer,
    resume: &wire::Resume,
    receipt_keys: &ReceiptKeys,
    joined_ns: u64,
) -> Result<Answered, ResumeError> {
    let batches: usize = resume.streams.iter().map(|stream| stream.unreceipted.len()).sum();
    if resume.streams.len() > STREAMS_NAMED_MAX || batches > BATCHES_NAMED_MAX {
        return Err(ResumeError::TooMuch);
    }
    let latest = ledger.latest(agent).map_err(ResumeError::Ledger)?;
    let latest = latest.as_ref();
    if latest.is_some_and(|latest| latest.info.internal) {
        return Err(ResumeError::Internal { agent });
    }
    let mut opens = Vec::with_capacity(resume.streams.len());
    for held in &resume.streams {
        let opening = held.opening.as_ref().ok_or(ResumeError::NoOpen)?;
        let open = Open::decode(&opening.open).map_err(ResumeError::Open)?;
        if open.agent != agent {
            return Err(ResumeError::OtherAgent { stream: open.stream, agent });
        }
        opens.push(open);
    }
    // A relay that brings a frozen agent's batches is not that agent: they are evidence.
    if let Some(latest) = latest.filter(|latest| bringer == Bringer::Agent && is_shut_out(latest, joined_ns)) {
        return Err(ResumeError::Frozen { stream: latest.info.stream, agent });
    }
    let mut positions = Vec::with_capacity(resume.streams.len() + 1);
    for (held, open) in resume.streams.iter().zip(&opens) {
        let Some(state) = ledger.stream(open.stream).map_err(ResumeError::Ledger)? else {
            positions.push(unrecorded(open.stream));
            continue;
        };
        if state.info.agent != agent {
            return Err(ResumeError::OtherAgent { stream: open.stream, agent });
        }
        let receipt = greatest_held(ledger, &state, &held.unreceipted)?;
        positions.push(position(ledger, &state, receipt)?);
    }
    if let Some(latest) = latest
        && positions.iter().all(|position| position.stream != latest.info.stream.as_bytes().as_slice())
    {
        positions.push(position(ledger, latest, Bytes::new())?);
    }
    // What a relay brings was done before it was told anything.
    let behind = if bringer == Bringer::Relay { None } else { lies_behind(ledger, agent, &resume.streams, &opens)? };
    let resumed = wire::Resumed {
        latest_stream: latest.map(|latest| stream_bytes(latest.info.stream)).unwrap_or_default(),
        streams: positions,
        receipt_keys: receipt_keys.iter().map(ReceiptKey::to_wire).collect(),
        window: u32::try_from(WINDOW).unwrap_or(1),
    };
    let named = opens.iter().map(|open| open.stream).collect();
    let scope = latest.and_then(|latest| latest.info.binding.scopes().next().cloned());
    Ok(Answered { resumed, behind, named, scope })
}

/// Whether the agent is frozen and has not joined again since: whoever holds its state takes part in the fork.
pub(super) fn is_shut_out(latest: &StreamState, joined_ns: u64) -> bool {
    latest.frozen_at.is_some_and(|frozen_at| joined_ns <= frozen_at)
}

/// A stream that another party opened behind a head which this agent holds, as one that had been restored. An agent that
/// really was restored does not hold that head.
fn lies_behind(
    ledger: &Ledger,
    agent: AgentId,
    held: &[wire::HeldStream],
    opens: &[Open],
) -> Result<Option<StreamId>, ResumeError> {
    let restored = ledger.restored(agent, STREAMS_NAMED_MAX).map_err(ResumeError::Ledger)?;
    if restored.is_empty() {
        return Ok(None);
    }
    // Streams of which the agent shows that it knows them. An open of cause 5 that is not on record yet says that its agent
    // was told of the stream it names, no more.
    let mut known: HashSet<StreamId> = opens.iter().map(|open| open.stream).collect();
    for open in opens {
        let Some(named) = open.predecessor else { continue };
        if open.cause != Cause::RestoredBehindLater || ledger.stream(open.stream).map_err(ResumeError::Ledger)?.is_some() {
            known.insert(named.stream);
        }
    }
    let others = restored.iter().map(|state| &state.info.open).filter(|open| !known.contains(&open.stream));
    let mut behind = others.filter_map(|later| {
        let named = later.predecessor?;
        let of = opens.iter().zip(held).find(|(open, _)| open.stream == named.stream)?.1;
        holds(of, &named).then_some(later.stream)
    });
    Ok(behind.next())
}

/// Whether the sender's chain of this stream reaches the batch that an open names.
fn holds(held: &wire::HeldStream, named: &Predecessor) -> bool {
    if named.k == Predecessor::NO_BATCH {
        return true;
    }
    let receipted = held.last_receipted.as_ref().and_then(|receipted| Header::decode(&receipted.header).ok());
    receipted.is_some_and(|header| header.k > named.k || (header.k == named.k && header.hash() == named.hash))
        || held.unreceipted.iter().any(|batch| batch.k == named.k && batch.hash == named.hash.0.as_slice())
}

/// The receipt for the greatest named batch that is in the ledger under the named hash; empty when there is none.
fn greatest_held(ledger: &Ledger, state: &StreamState, named: &[wire::NamedBatch]) -> Result<Bytes, ResumeError> {
    let Some(head) = state.head.k else { return Ok(Bytes::new()) };
    for batch in named.iter().rev().filter(|batch| batch.k <= head) {
        let committed = ledger.committed(state.info.stream, batch.k).map_err(ResumeError::Ledger)?;
        if let Some(committed) = committed.filter(|committed| committed.hash.0.as_slice() == batch.hash) {
            return Ok(ledger.sign(&committed).encode().into());
        }
    }
    Ok(Bytes::new())
}

fn unrecorded(stream: StreamId) -> wire::StreamPosition {
    wire::StreamPosition { stream: stream_bytes(stream), ..wire::StreamPosition::default() }
}

fn position(ledger: &Ledger, state: &StreamState, receipt: Bytes) -> Result<wire::StreamPosition, ResumeError> {
    let missing = ledger.missing(state.info.stream).map_err(ResumeError::Ledger)?;
    Ok(wire::StreamPosition {
        stream: stream_bytes(state.info.stream),
        recorded: true,
        head: named_head(&state.head),
        // A frozen stream takes nothing more: what its agent still holds of it comes rehomed once it has joined again.
        bound: if state.is_frozen() { state.head.k } else { state.bound },
        superseded: state.is_frozen() || state.superseded_by.is_some(),
        receipt,
        frozen: state.is_frozen(),
        missing: missing.into_iter().map(|(from, to)| wire::BatchRange { from, to }).collect(),
    })
}

/// A head as the wire names it; absent before batch 0.
pub(super) fn named_head(head: &Head) -> Option<wire::NamedBatch> {
    head.k.map(|k| wire::NamedBatch { k, hash: head.hash.0.to_vec().into() })
}

pub(super) fn stream_bytes(stream: StreamId) -> Bytes {
    Bytes::copy_from_slice(stream.as_bytes())
}
