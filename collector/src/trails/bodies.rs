//! Compressed log files between their plan and their PUT. What does not fit is made again from the ledger.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Source: some forty full log files of 15 MiB at 1 to 10.
const BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Default)]
pub(super) struct Bodies(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    bodies: HashMap<i64, Bytes>,
    bytes: usize,
}

impl Bodies {
    pub(super) fn keep(&self, object: i64, body: Bytes) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.bytes + body.len() <= BYTES_MAX {
            held.bytes += body.len();
            held.bodies.insert(object, body);
        }
    }

    pub(super) fn get(&self, object: i64) -> Option<Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bodies.get(&object).cloned()
    }

    pub(super) fn forget(&self, object: i64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(body) = held.bodies.remove(&object) {
            held.bytes -= body.len();
        }
    }
}
