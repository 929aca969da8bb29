//! The recent entries, in memory, so that consumers that keep up never read from disk.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Entry;

/// Consecutive entries up to the newest, bounded by bytes.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    bytes_max: usize,
}

/// What an entry costs beside its record bytes: header, facets, reference counts. An estimate, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 1024;
const RECORD_OVERHEAD_BYTES: usize = 512;

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// `entry` follows the newest one.
    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        self.bytes += cost(&entry);
        self.entries.push_back(entry);
        while self.bytes > self.bytes_max
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= cost(&oldest);
        }
    }

    /// The entries from `from` on up to `bytes_max` of records, at least one; `None` when `from` is not held.
    pub(super) fn read(&self, from: u64, bytes_max: usize) -> Option<Vec<Arc<Entry>>> {
        let first = self.entries.front()?.index;
        let skip = usize::try_from(from.checked_sub(first)?).ok()?;
        let mut bytes = 0;
        let mut out = Vec::new();
        for entry in self.entries.iter().skip(skip) {
            if !out.is_empty() && bytes >= bytes_max {
                break;
            }
            bytes += entry.record_bytes();
            out.push(entry.clone());
        }
        (!out.is_empty()).then_some(out)
    }
}

fn cost(entry: &Entry) -> usize {
    entry.record_bytes() + ENTRY_OVERHEAD_BYTES + entry.records.len() * RECORD_OVERHEAD_BYTES
}
