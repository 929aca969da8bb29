//! What is put to the ledger, and what it answers.
//!
//! [`judge_batch`] is the rule of docs/protocol.md §9 as a plain function of the stream's state; the writer applies it inside the
//! transaction that commits, so that no two batches can follow the same head.

use bytes::Bytes;
use edgetrail_proto::chain::{BatchKind, Hash, Head, Header, Seal};
use edgetrail_proto::identity::{AgentId, StreamId};

use super::{Encoding, EntryRecord, LedgerError, StreamInfo, StreamState};

/// A batch whose chain was verified: seal, root, count, sizes. The ledger checks its place in the stream.
#[derive(Debug)]
pub struct Incoming {
    pub header: Header,
    /// H_k, of `header`.
    pub hash: Hash,
    pub seal: Seal,
    pub encoding: Encoding,
    /// Stored as received.
    pub body: Bytes,
    /// Length of the decoded body, in bytes.
    pub body_bytes: u32,
    pub records: Vec<EntryRecord>,
    pub bringer: Bringer,
}

/// Who brings an open or a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bringer {
    /// The agent itself, or the collector its own: it can be told where it stands, and bring its records otherwise.
    Agent,
    /// A relay that has given its receipt: the agent holds the batch no more.
    Relay,
}

/// What a second party did, where no batch of the ledger contradicts it.
#[derive(Debug)]
pub enum Act {
    Open(StreamInfo),
    Batch {
        agent: AgentId,
        batch: Incoming,
    },
    /// A batch behind an open that came when no more opens of the agent were kept: it is counted, and nothing else.
    Beyond {
        agent: AgentId,
    },
    /// At a relay: home has found a fork, at this time. Its evidence is home's.
    Told {
        agent: AgentId,
        at: u64,
    },
}

/// Where a batch stands in the ledger, durably: what a receipt says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub stream: StreamId,
    pub k: u64,
    /// H_k.
    pub hash: Hash,
    pub index: u64,
    /// Unix nanoseconds.
    pub t_received: u64,
}

/// An open is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The stream was superseded already when it was recorded, or was since.
    pub superseded: bool,
}

/// Why nothing was committed. All but [`CommitError::Unavailable`] are the sender's state, not a fault.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("stream {stream} has no open on record: send its open first")]
    Unknown { stream: StreamId },
    /// Not the next batch: go on behind this head.
    #[error("the batch does not follow the stream's head")]
    Expect { head: Box<Head> },
    /// The very batch is in the ledger: it has a receipt coming.
    #[error("the batch is committed already, at ledger index {}", .0.index)]
    Duplicate(Committed),
    /// A second branch exists; all streams of the agent are frozen now and the batch is kept as evidence.
    #[error("stream {stream} has two branches at batch {k}: its agent is frozen until it joins again with a token")]
    Fork { stream: StreamId, k: u64 },
    #[error("stream {stream} is closed")]
    Closed { stream: StreamId },
    #[error("agent {agent} is frozen after a fork: it must join again with a token")]
    Frozen { agent: AgentId },
    /// An open follows a stream that another one followed before: the agent is to look at the latest one.
    #[error("the open follows a stream that is superseded; the agent's latest stream is {latest}")]
    Behind { latest: StreamId },
    /// The ledger can't write now. Nothing is lost: the sender keeps the batch and comes back.
    #[error("the ledger can't commit now")]
    Unavailable(#[source] LedgerError),
}

/// What the rule says of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is the next one.
    Next,
    /// Not above the head: the same batch is a duplicate, another one a fork. The store knows which.
    Past,
    /// Beyond a superseded stream's bound, sealed after the successor was opened.
    Fork,
    Expect,
    Closed,
    Frozen,
}

/// The table of docs/protocol.md §9. `superseded_at` is t_opened of the open that superseded the stream.
pub(super) fn judge_batch(state: &StreamState, superseded_at: Option<u64>, header: &Header, bringer: Bringer) -> Judgement {
    if state.is_frozen() {
        return Judgement::Frozen;
    }
    if state.head.k.is_some_and(|head| header.k <= head) {
        return Judgement::Past;
    }
    // Beyond the bound a batch sealed after the successor's open is a second branch, whoever brings it. One sealed before
    // is tail: an agent brings its records rehomed, a relay has the only copy.
    if let Some(superseded_at) = superseded_at
        && state.bound.is_none_or(|bound| header.k > bound)
    {
        if header.t_sealed > superseded_at {
            return Judgement::Fork;
        }
        if bringer == Bringer::Agent {
            return Judgement::Expect;
        }
    }
    if Some(header.k) != next_k(&state.head) || header.previous != state.head.hash {
        return Judgement::Expect;
    }
    if state.head.closed { Judgement::Closed } else { Judgement::Next }
}

/// The stream's head once `incoming` is committed.
pub(super) fn head_after(incoming: &Incoming) -> Head {
    let header = &incoming.header;
    Head {
        stream: header.stream,
        k: Some(header.k),
        hash: incoming.hash,
        next_key: header.next_key,
        next_seq: header.first_seq.saturating_add(u64::from(header.count)),
        counters: header.counters,
        closed: header.kind == BatchKind::Close,
    }
}

/// `None` behind the last k there can be.
fn next_k(head: &Head) -> Option<u64> {
    head.k.map_or(Some(0), |k| k.checked_add(1))
}
