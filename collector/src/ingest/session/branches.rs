//! What a session does with the branches of a fork: nothing of them is committed, all of it is kept, and a relay goes on.

use edgetrail_link::body::Decoder;
use edgetrail_link::wire::{self, from_agent, from_collector};
use edgetrail_proto::chain::{Binding, Hash, Open, verify_seal};
use edgetrail_proto::identity::{AgentId, StreamId};
use serde_json::json;
use tokio::time::Instant;
use tonic::Streaming;

use super::{Put, Session, Tracked, blocking, next_message_from};
use crate::ingest::batch::{BatchError, Received};
use crate::ingest::end::End;
use crate::ingest::events::Noticed;
use crate::ingest::resume::stream_bytes;
use crate::ledger::{Act, Bringer, CommitError, Ledger, StreamInfo};

impl Session {
    /// Batches behind a fork, no more than `most`: nothing of them is committed, all of them are kept.
    pub(super) async fn keep_branch(&mut self, inbound: &mut Streaming<wire::FromAgent>, most: usize) {
        for _ in 0..most {
            let Ok(from_agent::Message::Batch(batch)) = next_message_from(self.paced, inbound).await else { return };
            let paced = self.context.room.note(self.party.agent(), u64::from(batch.body_bytes), Instant::now().into_std());
            self.paced = paced.into();
            let Ok(received) = Received::read(batch, self.party.bringer()) else { return };
            // One that can't be kept says nothing of the next.
            drop(self.keep(received).await);
        }
    }

    /// Puts a frozen agent's batch to the ledger: it is refused as frozen, and kept, or counted where enough of the agent is
    /// kept: either way the ledger has judged it, durably. False where it can't now.
    pub(super) async fn keep(&mut self, received: Received) -> Result<bool, End> {
        let (stream, agent, ledger) = (received.header.stream, self.party.agent(), self.context.ledger.clone());
        let incoming = blocking(move || {
            let recorded = ledger.stream(stream).map_err(End::Ledger)?;
            let recorded = recorded.filter(|state| state.info.agent == agent).map(|state| state.info.binding.clone());
            let is_recorded = recorded.is_some();
            let binding = match recorded {
                Some(binding) => Some(binding),
                // Its open was the fork, and is kept alone.
                None => branch_binding(&ledger, agent, stream)?,
            };
            let Some(binding) = binding else {
                let is_beyond = ledger.has_opens_beyond(agent).map_err(End::Ledger)?;
                return if is_beyond { Ok(None) } else { Err(End::OtherAgent { stream }) };
            };
            let mut decoder = Decoder::new().map_err(|_| End::Verification)?;
            let refused = |source| End::Batch { stream: Some(stream), source };
            Ok(Some((received.verify_alone(&binding, &mut decoder).map_err(refused)?, is_recorded)))
        });
        let (incoming, ledger) = (incoming.await?, self.context.ledger.clone());
        let unavailable = |source| End::Commit { stream, source };
        let Some((incoming, is_recorded)) = incoming else {
            // Its very open was beyond what is kept: nothing of it can be checked.
            ledger.freeze(Act::Beyond { agent }).await.map_err(unavailable)?;
            return Ok(true);
        };
        if is_recorded {
            return match ledger.commit(incoming).await {
                Ok(_) | Err(CommitError::Duplicate(_) | CommitError::Frozen { .. } | CommitError::Fork { .. }) => Ok(true),
                Err(_) => Ok(false),
            };
        }
        ledger.freeze(Act::Batch { agent, batch: incoming }).await.map_err(unavailable)?;
        Ok(true)
    }

    /// Whether a relay's batch is of a frozen stream, or of one whose open is kept as evidence.
    pub(super) async fn is_of_a_branch(&mut self, received: &Received) -> Result<bool, End> {
        let (stream, k, agent) = (received.header.stream, received.header.k, self.party.agent());
        // What does not follow the head is sent twice, or belongs to a fork that the ledger may just have found.
        let follows =
            |tracked: &Tracked| k == tracked.verifier.next_k() && tracked.verifier.head().hash == received.header.previous;
        if self.streams.get(&stream).is_some_and(|tracked| !follows(tracked)) {
            self.settle().await?;
        }
        if self.streams.contains_key(&stream) {
            return Ok(false);
        }
        let ledger = self.context.ledger.clone();
        blocking(move || match ledger.stream(stream).map_err(End::Ledger)? {
            Some(state) => Ok(state.info.agent == agent && state.is_frozen() && !state.info.internal),
            None if branch_binding(&ledger, agent, stream)?.is_some() => Ok(true),
            // An open that was beyond what is kept.
            None => ledger.has_opens_beyond(agent).map_err(End::Ledger),
        })
        .await
    }

    /// Those that the ledger has found, in order.
    pub(super) async fn answer_branches(&mut self) -> Result<(), End> {
        for (Put { stream, k, hash, .. }, why) in std::mem::take(&mut self.kept) {
            self.answer_kept(stream, Some(k), hash, &why).await?;
        }
        Ok(())
    }

    /// What a relay brings of a fork is kept, and the relay goes on with other streams.
    pub(super) async fn answer_kept(
        &mut self,
        stream: StreamId,
        k: Option<u64>,
        hash: Hash,
        why: &CommitError,
    ) -> Result<(), End> {
        // Whatever was known of the agent's streams: they are frozen now.
        self.streams.clear();
        if matches!(why, CommitError::Fork { .. }) {
            tracing::warn!(agent = %self.party.agent(), by = %self.party.peer(), %stream, reason = %why, "a relay has brought a fork");
            let address = self.address.ip().to_string();
            let details = json!({ "stream": stream.to_string() });
            self.context.events.notice(Noticed::DetectFork, &self.party, &address, 1, &why.to_string(), details).await;
        }
        let hash = hash.0.to_vec().into();
        self.answer(from_collector::Message::Kept(wire::Kept { stream: stream_bytes(stream), hash, k })).await
    }

    /// The agent acts although it was told that another party went on in its place: two hold its state.
    pub(super) async fn freeze(&mut self, act: Act, stream: StreamId, k: u64) -> Result<(), End> {
        self.settle().await?;
        self.context.ledger.freeze(act).await.map_err(|source| End::Commit { stream, source })?;
        Err(End::Commit { stream, source: CommitError::Fork { stream, k } })
    }
}

/// Whether something was refused because two parties have acted.
pub(super) fn is_of_a_fork(refused: &CommitError) -> bool {
    matches!(refused, CommitError::Fork { .. } | CommitError::Frozen { .. })
}

/// What a stream is bound to whose open is kept as evidence, and nothing else. Blocks on disk.
fn branch_binding(ledger: &Ledger, agent: AgentId, stream: StreamId) -> Result<Option<Binding>, End> {
    let opens = ledger.branch_opens(agent).map_err(End::Ledger)?;
    let kept = opens.iter().find(|kept| Open::decode(&kept.open).is_ok_and(|open| open.stream == stream));
    Ok(kept.and_then(|kept| Binding::parse(&kept.binding).ok()))
}

/// A batch at or below the head that is not the committed one freezes its agent: its seal must be the stream's own, or
/// a byte flipped on the way would. The key that checks it is in the header before it, where that is the ledger's.
pub(super) fn check_past(ledger: &Ledger, info: &StreamInfo, received: &Received, accuses: bool) -> Result<(), End> {
    let (stream, k) = (received.header.stream, received.header.k);
    let committed = |k| ledger.committed(stream, k).map_err(End::Ledger);
    if committed(k)?.is_some_and(|committed| committed.hash == received.hash) {
        return Ok(());
    }
    let before = match k.checked_sub(1) {
        None => Some((info.open.hash(), info.open.first_key)),
        Some(before) => match committed(before)? {
            None => None,
            Some(before) => {
                let rows = ledger.index(before.index, before.index.saturating_add(1), 1).map_err(End::Ledger)?;
                rows.first().map(|row| (before.hash, row.header.next_key))
            }
        },
    };
    let sealed = match before {
        Some((hash, key)) if hash == received.header.previous => verify_seal(&key, &received.hash, &received.seal),
        // It follows a branch that the ledger does not hold: only the agent itself can say so. What is missing here may
        // come from anybody: the ledger knows what vouches for it; but nobody is accused by it.
        _ => received.bringer == Bringer::Agent || (committed(k)?.is_none() && !accuses),
    };
    let forged = BatchError::Chain(edgetrail_proto::chain::ChainError::Seal { k });
    if sealed { Ok(()) } else { Err(End::Batch { stream: Some(stream), source: forged }) }
}
