//! One slot of the key file: what of the ratchet survives a crash: docs/protocol.md §3.5.

use zeroize::Zeroizing;

use super::header::In;
use super::{Hash, Seed};
use crate::identity::StreamId;

/// Bytes of a slot, padding included. Source: docs/protocol.md §3.5; 4 KiB, a common file-system block.
pub const KEY_SLOT_BYTES: usize = 4096;

const CONTENT_BYTES: usize = 8 + 16 + 8 + 32 + 32;

/// The state between two batches: batch next_k − 1 is sealed, next_k is not.
#[derive(Clone, Debug)]
pub struct KeySlot {
    /// +1 per write.
    pub generation: u64,
    pub stream: StreamId,
    pub next_k: u64,
    /// H_{next_k − 1}.
    pub head: Hash,
    /// seed_{next_k}.
    pub seed: Seed,
}

impl KeySlot {
    /// The whole slot, check and padding included.
    pub fn encode(&self) -> Zeroizing<[u8; KEY_SLOT_BYTES]> {
        let mut slot = Zeroizing::new([0; KEY_SLOT_BYTES]);
        let mut filled = 0;
        // Straight into memory that is zeroed when dropped: no copy of the seed stays behind.
        let mut put = |field: &[u8]| {
            slot[filled..filled + field.len()].copy_from_slice(field);
            filled += field.len();
        };
        put(&self.generation.to_be_bytes());
        put(self.stream.as_bytes());
        put(&self.next_k.to_be_bytes());
        put(&self.head.0);
        put(self.seed.0.as_slice());
        let check = Hash::of(&slot[..CONTENT_BYTES]);
        slot[CONTENT_BYTES..CONTENT_BYTES + 32].copy_from_slice(&check.0);
        slot
    }

    /// `None` for anything but a whole, undamaged slot; an all-zero one is an erased one.
    pub fn decode(slot: &[u8]) -> Option<Self> {
        if slot.len() != KEY_SLOT_BYTES {
            return None;
        }
        let (content, rest) = slot.split_at(CONTENT_BYTES);
        let (check, padding) = rest.split_at(32);
        if Hash::of(content).0 != check || padding.iter().any(|&byte| byte != 0) {
            return None;
        }
        let mut content = In::new::<CONTENT_BYTES>(content)?;
        Some(Self {
            generation: content.u64(),
            stream: StreamId::from_bytes(content.take()),
            next_k: content.u64(),
            head: Hash(content.take()),
            seed: Seed(Zeroizing::new(content.take())),
        })
    }
}
