//! Which events are known: so that what is replayed is told once, and what is missing from a replay is noticed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The last events of one engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    /// Of the last event, or of the beginning, Unix nanoseconds. 0: nothing is known yet.
    time: u64,
    /// Their hashes, oldest first.
    hashes: VecDeque<String>,
}

/// Hashes kept: more than an engine replays.
const HASHES_MAX: usize = 300;

/// Events of one engine may come this much out of order, nanoseconds.
const SLACK: u64 = 1_000_000_000;

impl Seen {
    pub(super) fn restore(cursor: Option<&[u8]>) -> Self {
        cursor.and_then(|value| serde_json::from_slice(value).ok()).unwrap_or_default()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) const fn is_new(&self) -> bool {
        self.time == 0
    }

    pub(super) const fn begin(&mut self, now: u64) {
        self.time = now;
    }

    pub(super) const fn time(&self) -> u64 {
        self.time
    }

    /// From when on to ask: a little before the last, for order is not promised.
    pub(super) fn since(&self) -> u64 {
        if self.hashes.is_empty() { self.time } else { self.time.saturating_sub(SLACK) }
    }

    pub(super) fn has_last(&self) -> bool {
        !self.hashes.is_empty()
    }

    pub(super) fn is_last(&self, line: &[u8]) -> bool {
        self.hashes.back().is_some_and(|last| *last == hash(line))
    }

    /// Takes an event; its position, or nothing where it is known.
    pub(super) fn take(&mut self, line: &[u8], time: u64) -> Option<String> {
        let hash = hash(line);
        if self.hashes.contains(&hash) {
            return None;
        }
        self.hashes.push_back(hash.clone());
        if self.hashes.len() > HASHES_MAX {
            self.hashes.pop_front();
        }
        self.time = self.time.max(time);
        Some(format!("{time}:{hash}"))
    }
}

/// 8 bytes of a hash, hex: events of one second differ in them.
fn hash(line: &[u8]) -> String {
    let digest = Sha256::digest(line.trim_ascii());
    hex::encode(digest.get(..8).unwrap_or_default())
}
