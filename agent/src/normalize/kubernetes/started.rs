//! Long-running requests that have started and have their record: watches, execs, port-forwards.
//!
//! Each stays here until it ends, however much else happens, and is part of a cursor: its end is then no second record,
//! after a restart either. The table is cut into parts, so that a change rewrites a small one. Bounded: beyond, the oldest
//! of a part goes, and its end makes a record of its own.

use std::collections::VecDeque;

use uuid::Uuid;

/// A request: the beginning of a hash of its auditID and time.
pub(super) type Key = [u8; 16];

/// One that has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) code: u16,
    /// Its record's.
    pub(super) event_id: Uuid,
    /// It ended; what is sent again of it is known for a while.
    has_ended: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Started {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    /// Oldest first.
    starts: VecDeque<(Key, Start)>,
    is_changed: bool,
}

/// Parts, by a key's first byte.
const PARTS: usize = 64;

/// Most of a part: 32,768 in all. Every kubelet and controller holds some tens of watches.
const PART_MAX: usize = 512;

/// Of those the ended ones that are remembered.
const ENDED_MAX: usize = 16;

/// Bytes of one in a cursor: key, eventID, status, whether it ended.
const BYTES: usize = 16 + 16 + 2 + 1;

impl Default for Started {
    fn default() -> Self {
        Self { parts: vec![Part::default(); PARTS] }
    }
}

impl Started {
    /// Goes on from what [`Started::save`] gave.
    pub(super) fn restore(saved: impl IntoIterator<Item = (usize, Vec<u8>)>) -> Self {
        let mut started = Self::default();
        for (number, bytes) in saved {
            let Some(part) = started.parts.get_mut(number) else { continue };
            part.starts = bytes.chunks_exact(BYTES).take(PART_MAX).filter_map(read).collect();
        }
        started
    }

    /// The parts that changed since this was last called, by number.
    pub(super) fn save(&mut self) -> Vec<(usize, Vec<u8>)> {
        let changed = self.parts.iter_mut().enumerate().filter(|(_, part)| part.is_changed);
        let saved = changed.map(|(number, part)| {
            part.is_changed = false;
            (number, part.starts.iter().flat_map(|(key, start)| written(key, start)).collect())
        });
        saved.collect()
    }

    pub(super) fn get(&self, key: &Key) -> Option<Start> {
        self.parts.get(number(key))?.starts.iter().find(|(known, _)| known == key).map(|(_, start)| *start)
    }

    pub(super) fn start(&mut self, key: Key, code: u16, event_id: Uuid) {
        let Some(part) = self.parts.get_mut(number(&key)) else { return };
        if part.starts.iter().any(|(known, _)| *known == key) {
            return;
        }
        part.starts.push_back((key, Start { code, event_id, has_ended: false }));
        part.is_changed = true;
        if part.starts.len() > PART_MAX {
            let ended = part.starts.iter().position(|(_, start)| start.has_ended);
            part.starts.remove(ended.unwrap_or(0));
        }
    }

    /// Its end was told.
    pub(super) fn end(&mut self, key: &Key) {
        let Some(part) = self.parts.get_mut(number(key)) else { return };
        let Some((_, start)) = part.starts.iter_mut().find(|(known, start)| known == key && !start.has_ended) else { return };
        start.has_ended = true;
        part.is_changed = true;
        let ended = part.starts.iter().filter(|(_, start)| start.has_ended).count();
        if ended > ENDED_MAX
            && let Some(oldest) = part.starts.iter().position(|(_, start)| start.has_ended)
        {
            part.starts.remove(oldest);
        }
    }
}

fn number(key: &Key) -> usize {
    usize::from(key.first().copied().unwrap_or_default()) % PARTS
}

fn written(key: &Key, start: &Start) -> Vec<u8> {
    let code = start.code.to_be_bytes();
    [key.as_slice(), start.event_id.as_bytes().as_slice(), code.as_slice(), &[u8::from(start.has_ended)]].concat()
}

fn read(bytes: &[u8]) -> Option<(Key, Start)> {
    let key = bytes.get(..16)?.try_into().ok()?;
    let event_id = Uuid::from_slice(bytes.get(16..32)?).ok()?;
    let code = u16::from_be_bytes(bytes.get(32..34)?.try_into().ok()?);
    Some((key, Start { code, event_id, has_ended: bytes.get(34) == Some(&1) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        let mut key = [0; 16];
        key[8..].copy_from_slice(&(n as u64).to_be_bytes());
        key
    }

    #[test]
    fn what_has_started_is_known_until_it_ends_and_over_a_restart_in_bounded_room() {
        let mut started = Started::default();
        started.start(key(0), 200, Uuid::from_u128(7));
        for n in 1..2 * PART_MAX {
            started.start(key(n), 200, Uuid::nil());
            started.end(&key(n));
        }
        let saved = started.save();
        assert!(started.save().is_empty(), "unchanged");
        assert_eq!(saved.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), (1 + ENDED_MAX) * BYTES);
        let restored = Started::restore(saved);
        assert_eq!(restored.get(&key(0)), started.get(&key(0)));
        assert_eq!(restored.get(&key(0)).map(|start| start.event_id), Some(Uuid::from_u128(7)));
        assert_eq!(restored.get(&key(1)), None);
        for n in 0..2 * PART_MAX {
            started.start(key(n + 10_000), 200, Uuid::nil());
        }
        assert_eq!(started.parts[0].starts.len(), PART_MAX);
    }
}
