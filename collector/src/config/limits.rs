//! `[limits]`: what agents may take of the collector.

use edgetrail_proto::limits::BATCH_BYTES_MAX;
use edgetrail_settings::{Document, Size};
use serde::Deserialize;

use crate::ingest::IngestLimits;

/// Least rate of an agent, in bytes a second: one full batch.
const AGENT_RATE_MIN: u64 = BATCH_BYTES_MAX as u64;

/// Least room for batches: some agents' at a time.
const IN_FLIGHT_MIN: u64 = 16 * BATCH_BYTES_MAX as u64;

/// `[limits]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Shape {
    agent_rate: Size,
    in_flight: Size,
    connections: u32,
}

impl Default for Shape {
    fn default() -> Self {
        let IngestLimits { agent_rate, in_flight, connections } = IngestLimits::default();
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        Self { agent_rate: Size(agent_rate), in_flight: Size(in_flight), connections }
    }
}

pub(super) fn settings(document: &mut Document) -> IngestLimits {
    let shape: Shape = document.section("limits");
    if shape.agent_rate.0 < AGENT_RATE_MIN {
        document.error("limits.agent_rate", "give at least 1MiB, the bytes a second of one agent: a full batch must pass");
    }
    if shape.in_flight.0 < IN_FLIGHT_MIN {
        document.error("limits.in_flight", "give at least 16MiB");
    }
    if shape.connections == 0 {
        document.error("limits.connections", "give at least 1");
    }
    let connections = usize::try_from(shape.connections).unwrap_or(usize::MAX);
    IngestLimits { agent_rate: shape.agent_rate.0, in_flight: shape.in_flight.0, connections }
}
