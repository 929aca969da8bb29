//! What a start finds in the database and the key file, and what follows: the table of docs/protocol.md §3.5 as one pure function.
//!
//! Nothing is read or written here, so every row of the table is a test.

use edgetrail_proto::chain::{Cause, Hash, Header, KeySlot, Predecessor, PublicKey, Ratchet, Seal, verify_seal};
use edgetrail_proto::identity::StreamId;

/// The database's current stream.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) stream: StreamId,
    /// H_{-1}, and the key that checks batch 0.
    pub(super) begin: Hash,
    pub(super) first_key: PublicKey,
    /// The last sealed batch, and the one before it where it is still known.
    pub(super) head: Option<(Header, Seal)>,
    pub(super) before: Option<Header>,
}

/// What to do before the first commit.
#[derive(Debug)]
pub(super) enum Start {
    /// The key file is one batch behind or level: go on with this ratchet. `write` when the slot must be written first.
    GoOn { ratchet: Ratchet, write: bool },
    /// Never opened a stream: cause 0, or 2 where a buffer was there before.
    First(Cause),
    /// Open a stream behind `predecessor`.
    Successor(Succession),
}

/// How a successor follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Succession {
    pub(super) cause: Cause,
    pub(super) predecessor: Option<Predecessor>,
    /// Committed batches are gone: a gap `buffer-rollback`.
    pub(super) rolled_back: bool,
    /// The head's seal does not verify: its batch can't be sent and is dissolved.
    pub(super) dissolve_head: bool,
}

impl Found {
    fn next_k(&self) -> u64 {
        self.head.as_ref().map_or(0, |(header, _)| header.k + 1)
    }

    fn hash(&self) -> Hash {
        self.head.as_ref().map_or(self.begin, |(header, _)| header.hash())
    }

    /// The head as a successor names it.
    pub(super) fn as_predecessor(&self) -> Predecessor {
        let k = self.head.as_ref().map_or(Predecessor::NO_BATCH, |(header, _)| header.k);
        Predecessor { stream: self.stream, k, hash: self.hash() }
    }

    /// pk_K, where the database still says it.
    fn head_key(&self) -> Option<PublicKey> {
        match &self.head {
            Some((header, _)) if header.k == 0 => Some(self.first_key),
            Some(_) => self.before.as_ref().map(|before| before.next_key),
            None => None,
        }
    }
}

/// `existed`: there was a database file at all; `knows`: the database holds this stream or names it as a predecessor.
pub(super) fn decide(
    slot: Option<&KeySlot>,
    found: Option<&Found>,
    existed: bool,
    knows: impl FnOnce(StreamId) -> bool,
) -> Start {
    match (slot, found) {
        // Never enrolled: join left an empty database. Without even that the state directory was lost.
        (None, None) => Start::First(if existed { Cause::Join } else { Cause::BufferOrKeyLost }),
        // The database, or its only stream, is gone: the key file says where the stream stood.
        (Some(slot), None) => Start::Successor(Succession {
            cause: if existed { Cause::Rollback } else { Cause::BufferOrKeyLost },
            predecessor: Some(slot_head(slot)),
            rolled_back: existed,
            dissolve_head: false,
        }),
        (None, Some(found)) => key_lost(found, false),
        (Some(slot), Some(found)) if slot.stream != found.stream => {
            if knows(slot.stream) {
                key_lost(found, false)
            } else {
                rolled_back(slot)
            }
        }
        (Some(slot), Some(found)) => same_stream(slot, found),
    }
}

fn same_stream(slot: &KeySlot, found: &Found) -> Start {
    let ratchet = Ratchet::new(slot.stream, slot.next_k, slot.seed.clone());
    let due = found.next_k();
    if slot.next_k == due {
        return if slot.head == found.hash() { Start::GoOn { ratchet, write: false } } else { rolled_back(slot) };
    }
    if slot.next_k > due {
        return rolled_back(slot);
    }
    // A crash between the database commit of batch K and its slot: K was sealed under this seed and never left the host.
    let one_behind = found.head.as_ref().filter(|(header, _)| header.k == slot.next_k && header.previous == slot.head);
    let Some((header, seal)) = one_behind else {
        return key_lost(found, false);
    };
    let next = ratchet.next();
    if verify_seal(&ratchet.public_key(), &header.hash(), seal) && next.public_key() == header.next_key {
        Start::GoOn { ratchet: next, write: true }
    } else {
        key_lost(found, true)
    }
}

fn rolled_back(slot: &KeySlot) -> Start {
    Start::Successor(Succession {
        cause: Cause::Rollback,
        predecessor: Some(slot_head(slot)),
        rolled_back: true,
        dissolve_head: false,
    })
}

fn key_lost(found: &Found, doubtful: bool) -> Start {
    let sealed =
        found.head.as_ref().zip(found.head_key()).is_none_or(|((header, seal), key)| verify_seal(&key, &header.hash(), seal));
    Start::Successor(Succession {
        cause: Cause::BufferOrKeyLost,
        predecessor: Some(found.as_predecessor()),
        rolled_back: false,
        dissolve_head: doubtful && !sealed,
    })
}

fn slot_head(slot: &KeySlot) -> Predecessor {
    let k = slot.next_k.checked_sub(1).unwrap_or(Predecessor::NO_BATCH);
    Predecessor { stream: slot.stream, k, hash: slot.head }
}
