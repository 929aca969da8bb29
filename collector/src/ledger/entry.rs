//! One committed batch as its consumers read it.

use std::sync::Arc;

use bytes::Bytes;
use edgetrail_proto::chain::{Binding, Hash, Header, Open, Seal};
use edgetrail_proto::facets::{Facets, FacetsError};
use edgetrail_proto::identity::{AgentId, StreamId};

/// A stream as it was opened. Never changes.
#[derive(Debug)]
pub struct StreamInfo {
    pub stream: StreamId,
    pub agent: AgentId,
    pub open: Open,
    /// The open's bytes, its signature by the certificate's key and the certificate chain (leaf first, DER).
    pub open_bytes: Bytes,
    pub open_signature: Bytes,
    pub certificate_chain: Vec<Bytes>,
    pub binding: Binding,
    /// The collector's own stream.
    pub internal: bool,
}

/// A committed batch.
#[derive(Debug)]
pub struct Entry {
    /// ledger_index: +1 per batch, from 0.
    pub index: u64,
    /// Commit time, Unix nanoseconds.
    pub t_received: u64,
    pub stream: Arc<StreamInfo>,
    pub header: Header,
    /// H_k.
    pub hash: Hash,
    pub seal: Seal,
    /// In the order of the batch; empty for a heartbeat or close.
    pub records: Vec<EntryRecord>,
}

/// One record of a committed batch.
#[derive(Debug)]
pub struct EntryRecord {
    /// Exactly as the agent made them.
    pub bytes: Bytes,
    /// The leaf hash of `bytes`, as its batch's root covers it.
    pub leaf: Hash,
    /// Parsed once, at ingest; `Err` names why the record is quarantined and goes to no ordinary trail.
    pub facets: Result<Facets, Quarantine>,
}

/// Why a record inside a good batch is delivered to no ordinary trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quarantine {
    NotJson(String),
    OverLimit {
        bytes: usize,
    },
    OutsideBinding {
        account: String,
        region: String,
    },
    /// It speaks as the collector, and is not of its stream.
    NotTheCollectors,
}

/// eventSource of the collector's own events: who reads one must be able to take it for the collector's word.
pub const COLLECTOR_SOURCE: &str = "collector.edgetrail";

impl Entry {
    pub fn stream_id(&self) -> StreamId {
        self.header.stream
    }

    pub fn record_bytes(&self) -> usize {
        self.records.iter().map(|record| record.bytes.len()).sum()
    }
}

impl EntryRecord {
    /// Reads a record's facets and compares them with what its stream is bound to: the one place where a record is
    /// quarantined, so that ingest and a later re-read say the same. Every record is kept, whatever this finds.
    ///
    /// `leaf` is the leaf hash of `bytes`: whoever checks a batch has it already, and consumers need it again.
    pub fn judge(bytes: Bytes, leaf: Hash, binding: &Binding) -> Self {
        let facets = match Facets::parse(&bytes) {
            Ok(facets) if !binding.is_all() && facets.source.eq_ignore_ascii_case(COLLECTOR_SOURCE) => {
                Err(Quarantine::NotTheCollectors)
            }
            Ok(facets) if binding.allows(&facets.account, &facets.region) => Ok(facets),
            Ok(Facets { account, region, .. }) => Err(Quarantine::OutsideBinding { account, region }),
            Err(FacetsError::TooLarge { bytes }) => Err(Quarantine::OverLimit { bytes }),
            Err(error) => Err(Quarantine::NotJson(error.to_string())),
        };
        Self { bytes, leaf, facets }
    }
}
