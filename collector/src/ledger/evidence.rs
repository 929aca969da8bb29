//! Forks as an operator exports them: what the ledger committed, what came later, and all that proves both.
//!
//! Read beside a running collector, on a connection of its own that writes nothing. `edgetrail-verify fork` checks what
//! comes out with public keys alone. docs/protocol.md §9.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use edgetrail_disk::Medium;
use edgetrail_link::body;
use edgetrail_proto::chain::Receipt;
use edgetrail_proto::evidence::{EVIDENCE_VERSION, Evidence, EvidenceBatch, EvidenceOpen};
use edgetrail_proto::identity::{AgentId, StreamId};
use edgetrail_proto::proof::Base64;
use rusqlite::Connection;

use super::forks::{self, KeptBatch};
use super::store::{self, BatchRow, StreamRow};
use super::{Committed, Encoding, LedgerError, Waiting, anchors, segments};

/// Most committed batches that stand beside the later branches; the ledger holds the rest.
const COMMITTED_MAX: usize = 4096;

/// One fork, for a list.
#[derive(Clone, Debug)]
pub struct Fork {
    pub agent: AgentId,
    /// Where the branches part; `None` where an open shows the fork, and no batch does.
    pub stream: Option<StreamId>,
    pub k: Option<u64>,
    pub branches: usize,
    /// What is kept of the later branches.
    pub batches: usize,
    pub opens: usize,
    /// What came beyond the bound and is not kept: batches and opens.
    pub beyond: u64,
    /// Unix nanoseconds: when the first of it came.
    pub t_seen: u64,
}

/// The forks of a ledger directory.
#[derive(Debug)]
pub struct Forks {
    connection: Connection,
    medium: Medium,
    segments_dir: PathBuf,
}

impl Forks {
    /// Reads the ledger in `dir`; a collector may be running on it.
    pub fn open(medium: &Medium, dir: &Path) -> Result<Self, LedgerError> {
        let connection = store::open_reader(medium, &dir.join("ledger.sqlite"))?;
        Ok(Self { connection, medium: medium.clone(), segments_dir: dir.join("segments") })
    }

    /// One for each agent of which something is kept.
    pub fn list(&self) -> Result<Vec<Fork>, LedgerError> {
        let agents = forks::agents(&self.connection)?;
        agents.into_iter().map(|agent| self.fork(agent)).collect()
    }

    /// Streams that stand still until another collector brings what it vouched for.
    pub fn waiting(&self) -> Result<Vec<Waiting>, LedgerError> {
        anchors::waiting(&self.connection)
    }

    /// The agent whose stream this is, recorded or kept.
    pub fn agent_of(&self, stream: StreamId) -> Result<Option<AgentId>, LedgerError> {
        Ok(store::stream(&self.connection, stream)?.map(|row| row.state.info.agent))
    }

    fn fork(&self, agent: AgentId) -> Result<Fork, LedgerError> {
        let batches = forks::batches_of(&self.connection, agent)?;
        let opens = forks::opens_of(&self.connection, agent)?;
        let forks::Beyond { batches: more, opens: more_opens } = forks::beyond(&self.connection, agent)?;
        let first = batches.iter().min_by_key(|batch| batch.t_received);
        let t_seen = batches.iter().map(|batch| batch.t_received).chain(opens.iter().map(|open| open.t_received)).min();
        Ok(Fork {
            agent,
            stream: first.map(|batch| batch.stream),
            k: first.map(|batch| batch.header.k),
            branches: batches.iter().map(|batch| (batch.stream, batch.branch)).collect::<BTreeSet<_>>().len(),
            batches: batches.len(),
            opens: opens.len(),
            beyond: more.saturating_add(more_opens),
            t_seen: t_seen.unwrap_or(0),
        })
    }

    /// Everything about an agent's fork; `None` where nothing is kept of it. `sign` gives this collector's receipt for what it
    /// committed, the same bytes as ever; receipt keys are the caller's to add.
    pub fn export(&self, agent: AgentId, sign: impl Fn(&Committed) -> Option<Receipt>) -> Result<Option<Evidence>, LedgerError> {
        let (kept, kept_opens) = (forks::batches_of(&self.connection, agent)?, forks::opens_of(&self.connection, agent)?);
        if kept.is_empty() && kept_opens.is_empty() {
            return Ok(None);
        }
        let streams = store::streams_of(&self.connection, agent)?;
        let mut opens: Vec<EvidenceOpen> = streams.iter().map(recorded_open).collect();
        opens.extend(kept_opens.iter().map(|open| EvidenceOpen {
            open: open.open.clone().into(),
            binding: open.binding.clone().into(),
            signature: open.open_signature.clone().into(),
            certificate_chain: open.certificate_chain.iter().map(|der| der.clone().into()).collect(),
        }));
        // Where the later branches of each stream begin, the first that came before all: what the ledger holds from there on
        // stands against them.
        let mut begins: Vec<(StreamId, u64)> = Vec::new();
        let mut in_order: Vec<&KeptBatch> = kept.iter().collect();
        in_order.sort_by_key(|batch| (batch.t_received, batch.header.k));
        for batch in in_order {
            match begins.iter_mut().find(|(stream, _)| *stream == batch.stream) {
                Some((_, from)) => *from = batch.header.k.min(*from),
                None => begins.push((batch.stream, batch.header.k)),
            }
        }
        let (mut common, mut committed, mut held) = (None, Vec::new(), Vec::new());
        for (at, (stream, from)) in begins.into_iter().enumerate() {
            let Some(row) = streams.iter().find(|row| row.state.info.stream == stream) else { continue };
            let before = from.checked_sub(1).map(|before| self.committed(row, before)).transpose()?.flatten();
            if at == 0 {
                common = before;
            } else {
                // Of a further stream the last common batch stands before those that follow it.
                committed.extend(before);
            }
            let last = row.state.head.k.map_or(0, |head| head.saturating_add(1));
            for k in (from..last).take(COMMITTED_MAX.saturating_sub(committed.len())) {
                committed.extend(self.committed(row, k)?);
            }
            if let Some(last) = last.checked_sub(1) {
                held.extend(store::committed(&self.connection, row.id, stream, last)?);
            }
        }
        let theirs = kept.iter().filter_map(|batch| batch.receipt.clone()).map(Base64::from);
        let ours = held.iter().filter_map(sign).map(|receipt| Base64(receipt.encode()));
        let receipts = ours.chain(theirs).collect();
        Ok(Some(Evidence {
            version: EVIDENCE_VERSION.to_owned(),
            agent_id: agent.to_string(),
            t_seen: self.fork(agent)?.t_seen,
            opens,
            common,
            committed,
            later: kept.iter().map(later).collect(),
            receipts,
            receipt_keys: Vec::new(),
        }))
    }

    /// A batch of the ledger; without its records where their segment is released.
    fn committed(&self, row: &StreamRow, k: u64) -> Result<Option<EvidenceBatch>, LedgerError> {
        let Some(committed) = store::committed(&self.connection, row.id, row.state.info.stream, k)? else { return Ok(None) };
        let Some(batch) = store::batches(&self.connection, committed.index, 1)?.pop() else { return Ok(None) };
        let BatchRow { index, position, encoding, body_bytes, .. } = batch;
        let body = segments::read_body(&self.medium, &self.segments_dir, index, position).ok();
        Ok(Some(EvidenceBatch {
            header: batch.header.encode().to_vec().into(),
            seal: batch.seal.0.to_vec().into(),
            t_received: committed.t_received,
            records: body.and_then(|body| records(encoding, &body, body_bytes)),
        }))
    }
}

fn recorded_open(row: &StreamRow) -> EvidenceOpen {
    let info = &row.state.info;
    EvidenceOpen {
        open: info.open_bytes.to_vec().into(),
        binding: info.binding.to_bytes().into(),
        signature: info.open_signature.to_vec().into(),
        certificate_chain: info.certificate_chain.iter().map(|der| der.to_vec().into()).collect(),
    }
}

fn later(batch: &KeptBatch) -> EvidenceBatch {
    EvidenceBatch {
        header: batch.header.encode().to_vec().into(),
        seal: batch.seal.0.to_vec().into(),
        t_received: batch.t_received,
        records: batch.body.as_deref().and_then(|body| records(batch.encoding, body, batch.body_bytes)),
    }
}

fn records(encoding: Encoding, body: &[u8], body_bytes: usize) -> Option<Vec<Base64>> {
    let decoded = Bytes::from(body::Decoder::new().ok()?.decode(encoding, body, body_bytes).ok()?);
    body::unframe(&decoded).map(|record| record.ok().map(|record| record.to_vec().into())).collect()
}
