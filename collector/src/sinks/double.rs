//! A sink for tests alone, whose every PUT can be told to fail, in both flavours that matter: before or after storing.
#![cfg(test)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Object, ObjectMeta, ObjectStat, Put, SinkError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Answers an error; nothing is stored.
    FailsBefore,
    /// Stores, and answers an error.
    FailsAfter,
    /// Never answers; nothing is stored.
    HangsBefore,
    /// Stores, and never answers.
    HangsAfter,
    /// Ignores the condition.
    Overwrites,
}

#[derive(Clone, Debug, Default)]
pub struct Double(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, (Bytes, ObjectMeta)>,
    /// Keys in the order in which they were stored.
    order: Vec<String>,
    script: VecDeque<Fault>,
    fault: Option<Fault>,
    puts: u64,
}

impl Double {
    /// From now on, for every PUT.
    pub fn fault(&self, fault: Fault) {
        self.0.lock().unwrap().fault = Some(fault);
    }

    /// For the next PUTs, one each.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap().script.extend(faults);
    }

    pub fn heal(&self) {
        let mut state = self.0.lock().unwrap();
        state.fault = None;
        state.script.clear();
    }

    /// Somebody else writes there.
    pub fn intrude(&self, key: &str, bytes: &'static [u8]) {
        self.0.lock().unwrap().objects.insert(key.to_owned(), (Bytes::from_static(bytes), ObjectMeta::default()));
    }

    pub fn remove(&self, key: &str) {
        self.0.lock().unwrap().objects.remove(key);
    }

    pub fn order(&self) -> Vec<String> {
        self.0.lock().unwrap().order.clone()
    }

    pub fn puts(&self) -> u64 {
        self.0.lock().unwrap().puts
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes, meta: &ObjectMeta) -> Result<Put, SinkError> {
        let (fault, put) = {
            let mut state = self.0.lock().unwrap();
            state.puts += 1;
            let fault = state.script.pop_front().or(state.fault).unwrap_or(Fault::None);
            let stores = !matches!(fault, Fault::FailsBefore | Fault::HangsBefore);
            let free = fault == Fault::Overwrites || !state.objects.contains_key(key);
            if stores && free {
                state.objects.insert(key.to_owned(), (bytes, meta.clone()));
                state.order.push(key.to_owned());
            }
            (fault, if free { Put::Created } else { Put::Exists })
        };
        match fault {
            Fault::None | Fault::Overwrites => Ok(put),
            Fault::FailsBefore | Fault::FailsAfter => Err(SinkError::Unavailable { source: "told to fail".into() }),
            Fault::HangsBefore | Fault::HangsAfter => std::future::pending().await,
        }
    }

    pub fn get(&self, key: &str) -> Option<Object> {
        let state = self.0.lock().unwrap();
        let (bytes, meta) = state.objects.get(key)?;
        Some(Object {
            bytes: bytes.clone(),
            meta: meta.clone(),
            stat: ObjectStat { key: key.to_owned(), bytes: bytes.len() as u64, modified: 0 },
        })
    }

    pub fn list(&self, prefix: &str, start_after: &str, max: usize) -> Vec<ObjectStat> {
        let state = self.0.lock().unwrap();
        let matches = state.objects.iter().filter(|(key, _)| key.starts_with(prefix) && key.as_str() > start_after);
        let stats = matches.map(|(key, (bytes, _))| ObjectStat { key: key.clone(), bytes: bytes.len() as u64, modified: 0 });
        stats.take(max).collect()
    }
}
