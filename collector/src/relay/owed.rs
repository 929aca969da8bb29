//! What home has not got yet of what a relay holds, read beside a running relay: for `relay status` and `check`.

use std::collections::BTreeMap;
use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_proto::identity::AgentId;

use super::progress::{Known, Progress, ProgressError};
use crate::ledger::{HeldStreams, LedgerError};

/// No batch has a greater number: a row's is signed.
const K_MAX: u64 = i64::MAX.cast_unsigned();

/// As it stands on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Unix nanoseconds: since when the relay hears home; `None` while it does not.
    pub connected_ns: Option<u64>,
    /// Unix nanoseconds: the newest of home's receipts, by home's clock.
    pub last_receipt_ns: Option<u64>,
    /// Batches by agent, where there are any.
    pub agents: BTreeMap<AgentId, u64>,
    /// Security events that home has not recorded yet.
    pub notices: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum OwedError {
    #[error("the relay's ledger can't be read")]
    Ledger(#[from] LedgerError),
    #[error("the record of home's receipts can't be read")]
    Progress(#[from] ProgressError),
}

/// Reads the state directory of a relay, which may run. Nothing is owed where no relay has run yet.
pub fn owed(medium: &Medium, dir: &Path) -> Result<Owed, OwedError> {
    if !dir.join("ledger/ledger.sqlite").exists() {
        return Ok(Owed::default());
    }
    let Some(Known { streams, kept, connected_ns, last_receipt_ns, notices }) = Progress::read(medium, dir)? else {
        return Ok(Owed::default());
    };
    let held = HeldStreams::open(medium, &dir.join("ledger"))?;
    let mut agents = BTreeMap::new();
    for (agent, stream) in held.streams()? {
        let standing = streams.get(&stream).cloned().unwrap_or_default();
        let beyond = (standing.receipted.map_or(0, |k| k.saturating_add(1)), K_MAX);
        let mut batches = 0_u64;
        for (from, to) in standing.missing.into_iter().chain([beyond]) {
            batches = batches.saturating_add(held.count(stream, from, to)?);
            // What home keeps as evidence of a fork gets no receipt.
            for hash in kept.iter().filter(|(of, _)| *of == stream).map(|(_, hash)| *hash) {
                batches = batches.saturating_sub(u64::from(held.holds(stream, hash, from, to)?));
            }
        }
        if batches > 0 {
            *agents.entry(agent).or_insert(0) += batches;
        }
    }
    Ok(Owed { connected_ns, last_receipt_ns, agents, notices })
}
