//! The order of opens: which stream of an agent follows which. docs/protocol.md §9.
//!
//! A plain function of what is recorded, applied inside the transaction that records the open.

use edgetrail_proto::chain::{Cause, Open, Predecessor};
use edgetrail_proto::identity::StreamId;

use super::StreamState;

/// What recording an open does to the agent's streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenJudgement {
    /// It becomes the agent's current stream and supersedes these.
    Current { supersedes: Vec<Superseding> },
    /// It is recorded as superseded by a stream that is on record already.
    Late { by: StreamId, bound: Option<u64>, superseded_at: u64 },
    /// A second successor of a superseded stream: not recorded, the agent is told the latest.
    Behind { latest: StreamId },
    /// The agent is frozen and this is no re-join.
    Frozen,
}

/// A stream that takes no more batches than up to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superseding {
    pub(super) stream: StreamId,
    /// `None`: not even batch 0.
    pub(super) bound: Option<u64>,
}

/// `streams`: all recorded streams of the agent, oldest first, without this one.
pub(super) fn judge_open(open: &Open, streams: &[StreamState]) -> OpenJudgement {
    let latest = streams.iter().rev().find(|state| state.superseded_by.is_none());
    if streams.iter().any(|state| state.is_frozen()) && latest.is_none_or(|state| state.is_frozen()) {
        // The rightful one joins again with a token, which gives it a certificate that no branch has; that the join came
        // after the freeze is ingest's to know. Its cause is 4, or 2 where it has lost what it knew.
        let rejoined = streams.iter().all(|state| state.info.open.certificate != open.certificate);
        if !rejoined {
            return OpenJudgement::Frozen;
        }
    }

    // A recorded open names this one as its predecessor: it came late.
    let successor = streams.iter().find_map(|state| match &state.info.open.predecessor {
        Some(predecessor) if predecessor.stream == open.stream => Some((state, *predecessor)),
        _ => None,
    });
    if let Some((successor, predecessor)) = successor {
        return OpenJudgement::Late {
            by: successor.info.stream,
            bound: batch_named(&predecessor),
            superseded_at: successor.info.open.t_opened,
        };
    }

    let Some(latest) = latest else {
        return OpenJudgement::Current { supersedes: Vec::new() };
    };
    let predecessor = open
        .predecessor
        .as_ref()
        .and_then(|p| streams.iter().find(|state| state.info.stream == p.stream).map(|state| (state, p)));

    // One that was opened before the current stream came late too. It takes nothing: no open says up to where.
    if open.t_opened < latest.info.open.t_opened {
        return OpenJudgement::Late { by: latest.info.stream, bound: None, superseded_at: latest.info.open.t_opened };
    }
    // A link by the agent's id alone is no successor: only an open that names the same stream makes this one a second.
    let has_successor =
        |stream: StreamId| streams.iter().any(|state| state.info.open.predecessor.is_some_and(|named| named.stream == stream));
    if let Some((state, _)) = predecessor
        && has_successor(state.info.stream)
        && open.cause != Cause::Fork
    {
        return OpenJudgement::Behind { latest: latest.info.stream };
    }

    let mut supersedes = Vec::new();
    if let Some((state, named)) = predecessor
        && state.superseded_by.is_none()
    {
        supersedes.push(Superseding { stream: state.info.stream, bound: state.head.k.max(batch_named(named)) });
    }
    if predecessor.is_none_or(|(state, _)| state.info.stream != latest.info.stream) {
        supersedes.push(Superseding { stream: latest.info.stream, bound: latest.head.k });
    }
    OpenJudgement::Current { supersedes }
}

fn batch_named(predecessor: &Predecessor) -> Option<u64> {
    (predecessor.k != Predecessor::NO_BATCH).then_some(predecessor.k)
}
