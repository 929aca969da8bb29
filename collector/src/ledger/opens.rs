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
    Late { by: StreamId, bound: Option<u64> },
    /// A second successor of a superseded stream: not recorded, the agent is told the latest.
    Behind { latest: StreamId },
    /// The agent is frozen and this is no re-join, nor what its rightful party did before one.
    Frozen,
}

/// A stream that takes no more batches than up to its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Superseding {
    pub(super) stream: StreamId,
    /// `None`: not even batch 0.
    pub(super) bound: Option<u64>,
}

/// `streams`: the recorded streams of the agent that bear on the open, oldest first, without this one: the current one, the one
/// that it names, those that name either, and what tells whether the agent is frozen. `joined_at`: when the party joined last
/// that brings its own open, Unix nanoseconds; 0 where somebody else brings it.
pub(super) fn judge_open(open: &Open, streams: &[StreamState], joined_at: u64) -> OpenJudgement {
    let latest = streams.iter().rev().find(|state| state.superseded_by.is_none());
    if streams.iter().any(|state| state.is_frozen()) && latest.is_none_or(|state| state.is_frozen()) {
        // The rightful one joins again with a token, which gives it a certificate that no branch has. Its cause is 4, or 2
        // where it has lost what it knew.
        let rejoined = streams.iter().all(|state| state.info.open.certificate != open.certificate);
        if !rejoined {
            // What it opened before that, and nobody had recorded, takes nothing: its records come behind a report.
            let settled = latest.filter(|latest| latest.frozen_at.is_some_and(|frozen_at| frozen_at < joined_at));
            return settled.map_or(OpenJudgement::Frozen, |latest| OpenJudgement::Late { by: latest.info.stream, bound: None });
        }
    }

    // A recorded open names this one as its predecessor: it came late.
    let successor = streams.iter().find_map(|state| match &state.info.open.predecessor {
        Some(predecessor) if predecessor.stream == open.stream => Some((state, *predecessor)),
        _ => None,
    });
    if let Some((successor, predecessor)) = successor {
        return OpenJudgement::Late { by: successor.info.stream, bound: batch_named(&predecessor) };
    }

    let Some(latest) = latest else {
        return OpenJudgement::Current { supersedes: Vec::new() };
    };
    let predecessor = open
        .predecessor
        .as_ref()
        .and_then(|p| streams.iter().find(|state| state.info.stream == p.stream).map(|state| (state, p)));

    // One that was opened before the current stream came late too. It takes nothing: no open says up to where. Who names the
    // current stream knew it, and came after it, whatever the host's clock says.
    let names_latest = predecessor.is_some_and(|(state, _)| state.info.stream == latest.info.stream);
    if open.t_opened < latest.info.open.t_opened && !names_latest {
        return OpenJudgement::Late { by: latest.info.stream, bound: None };
    }
    // A link by the agent's id alone is no successor: only an open that names the same stream makes this one a second, and
    // none that was itself recorded as superseded by the stream it names.
    let succeeds = |state: &StreamState, stream: StreamId| {
        state.info.open.predecessor.is_some_and(|named| named.stream == stream) && state.superseded_by != Some(stream)
    };
    let has_successor = |stream: StreamId| streams.iter().any(|state| succeeds(state, stream));
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

/// From when on a batch of a superseded stream, sealed beyond its bound, is another party's doing: `opened` is what the
/// superseding open says. Where it lies before `known`, which its agent had done before it opened (that it opened the stream it
/// names, or sealed the batch it names), the host's clock went back in between, and the times of both streams can't be
/// compared: then it is when the ledger recorded the open, and no sooner than anything known.
pub(super) fn superseded_at(opened: u64, known: u64, recorded: u64) -> u64 {
    if opened < known { recorded.max(known) } else { opened }
}

fn batch_named(predecessor: &Predecessor) -> Option<u64> {
    (predecessor.k != Predecessor::NO_BATCH).then_some(predecessor.k)
}
