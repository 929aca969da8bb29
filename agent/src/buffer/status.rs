//! What the buffer holds, for `status`: read beside a running agent, or without one.

use std::path::Path;

use edgetrail_disk::Medium;
use edgetrail_proto::chain::Counters;
use serde::Serialize;

use super::BufferError;
use super::scribe::{STREAMS_READ_MAX, end_seq};
use super::store;

/// The buffer at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The current stream; absent before the first start.
    pub stream: Option<String>,
    /// Its last sealed batch.
    pub head: Option<Head>,
    /// Streams since the agent joined.
    pub streams: usize,
    /// Records without a receipt, and their bytes.
    pub records: u64,
    pub bytes: u64,
    /// Commit time of the oldest of them, Unix nanoseconds.
    pub oldest: Option<u64>,
    /// Time of the last commit, Unix nanoseconds.
    pub committed: u64,
    /// The last batch with a receipt.
    pub receipted: Option<Receipted>,
    /// What the current stream has seen.
    pub counters: Seen,
    /// A collector called this stream a fork: join again with a token.
    pub forked: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    pub k: u64,
    pub hash: String,
    pub next_seq: u64,
    /// Unix nanoseconds.
    pub sealed: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipted {
    pub stream: String,
    pub k: u64,
    /// Where it stands in the collector's ledger.
    pub ledger_index: u64,
    /// Unix nanoseconds, the collector's clock.
    pub received: u64,
}

/// The counters of docs/protocol.md §3.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    pub observed: u64,
    pub refused: u64,
    pub own: u64,
    pub lost_agent: u64,
    pub lost_source: u64,
}

/// Reads the buffer in `dir`.
pub fn status(dir: &Path) -> Result<Status, BufferError> {
    let db = store::open_reader(&Medium::real(), dir)?;
    let state = store::state(&db)?;
    let streams = store::streams(&db, STREAMS_READ_MAX)?;
    let current = streams.iter().find(|row| Some(row.ordinal) == state.current);
    let (records, bytes, oldest) = store::depth(&db)?;
    let head = current.and_then(|row| row.head.as_ref()).map(|(header, _)| Head {
        k: header.k,
        hash: header.hash().to_hex(),
        next_seq: end_seq(header),
        sealed: header.t_sealed,
    });
    let receipted = streams.iter().rev().find_map(|row| row.receipted.as_ref()).map(|(_, _, receipt)| Receipted {
        stream: receipt.stream.to_string(),
        k: receipt.k,
        ledger_index: receipt.ledger_index,
        received: receipt.t_received,
    });
    let counters = current.and_then(|row| row.head.as_ref()).map_or_else(Counters::default, |(header, _)| header.counters);
    let Counters { observed, refused, own, lost_agent, lost_source } = counters;
    Ok(Status {
        stream: current.map(|row| row.open.stream.to_string()),
        head,
        streams: streams.len(),
        records,
        bytes,
        oldest,
        committed: state.committed,
        receipted,
        counters: Seen { observed, refused, own, lost_agent, lost_source },
        forked: state.forked.map(|id| id.to_string()),
    })
}
