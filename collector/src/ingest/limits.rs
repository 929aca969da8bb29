//! What one agent may send, and what all may keep in memory together.
//!
//! An agent over its rate is slowed, not dropped: its connection is not read for a while, HTTP/2's window fills, and the
//! agent's own buffer holds what is not sent. The rate is the agent's, not the connection's: connecting anew resets
//! nothing. Every batch and every open leaves rows that stay for ever, so that each costs something however small it is. What is decoded and not yet durable counts against one room for all agents; who finds it full waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgetrail_proto::identity::AgentId;
use edgetrail_proto::limits::MESSAGE_BYTES_MAX;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Bytes of records a second, decoded: some 30,000 records, more than a host makes in a bad hour.
pub(super) const AGENT_RATE: u64 = 32 * 1024 * 1024;

/// Bytes of all batches that are received and not yet durable, encoded and decoded.
pub(super) const IN_FLIGHT: u64 = 256 * 1024 * 1024;

/// What a batch costs of the rate at least: its seal is verified, its row stays for ever. At the default rate an agent brings
/// 1,024 batches a second of which it has sealed some before, as many heartbeats as it makes in 17 hours.
const BATCH_COST: u64 = 32 * 1024;

/// Opens of an agent at once, and then one each [`OPEN_INTERVAL`]. An agent opens a stream when it starts; one that comes back
/// after long, or a relay, brings some.
const OPENS_AT_ONCE: u32 = 32;
const OPEN_INTERVAL: Duration = Duration::from_secs(1);

/// Agents whose rate is remembered before those are forgotten that have none to remember.
const AGENTS_SWEPT: usize = 1024;

/// Ingest's limits that are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngestLimits {
    /// Bytes a second of one agent; so many at once, too.
    pub agent_rate: u64,
    /// Bytes of all agents.
    pub in_flight: u64,
    /// Connections on the port.
    pub connections: usize,
}

impl Default for IngestLimits {
    fn default() -> Self {
        Self { agent_rate: AGENT_RATE, in_flight: IN_FLIGHT, connections: edgetrail_link::tls::CONNECTIONS_MAX }
    }
}

/// Who has sent how much, and how much room there is.
#[derive(Debug)]
pub(super) struct Room {
    limits: IngestLimits,
    bytes: Arc<Semaphore>,
    debts: Mutex<HashMap<AgentId, Debt>>,
}

/// When an agent's debts are paid: in the past, it has none.
#[derive(Clone, Copy, Debug)]
struct Debt {
    bytes: Instant,
    opens: Instant,
}

impl Room {
    pub(super) fn new(limits: IngestLimits) -> Self {
        // A single message always finds room in the end.
        let bytes = usize::try_from(limits.in_flight).unwrap_or(usize::MAX).clamp(2 * MESSAGE_BYTES_MAX, Semaphore::MAX_PERMITS);
        Self { limits, bytes: Arc::new(Semaphore::new(bytes)), debts: Mutex::default() }
    }

    /// Room for a batch until what it gives is dropped.
    pub(super) async fn take(self: Arc<Self>, bytes: usize) -> Result<OwnedSemaphorePermit, AcquireError> {
        let bytes = u32::try_from(bytes.min(2 * MESSAGE_BYTES_MAX)).unwrap_or(u32::MAX);
        Arc::clone(&self.bytes).acquire_many_owned(bytes).await
    }

    /// Notes a batch of this many decoded bytes; nothing more of the agent is read before the time this gives.
    pub(super) fn note(&self, agent: AgentId, bytes: u64, now: Instant) -> Instant {
        let cost = Duration::from_secs_f64(bytes.max(BATCH_COST) as f64 / self.limits.agent_rate.max(1) as f64);
        // A second's worth is free at once.
        self.owe(agent, now, |debt| &mut debt.bytes, cost, Duration::from_secs(1))
    }

    /// Notes an open; nothing more of the agent is read before the time this gives.
    pub(super) fn note_open(&self, agent: AgentId, now: Instant) -> Instant {
        self.owe(agent, now, |debt| &mut debt.opens, OPEN_INTERVAL, OPEN_INTERVAL * OPENS_AT_ONCE)
    }

    fn owe(&self, agent: AgentId, now: Instant, of: fn(&mut Debt) -> &mut Instant, cost: Duration, free: Duration) -> Instant {
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        if debts.len() >= AGENTS_SWEPT && !debts.contains_key(&agent) {
            debts.retain(|_, debt| debt.bytes > now || debt.opens > now);
        }
        let paid = of(debts.entry(agent).or_insert(Debt { bytes: now, opens: now }));
        *paid = (*paid).max(now) + cost;
        paid.checked_sub(free).unwrap_or(now).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(agent_rate: u64) -> Room {
        Room::new(IngestLimits { agent_rate, ..IngestLimits::default() })
    }

    #[test]
    fn an_agent_over_its_rate_waits_whatever_its_connection_and_no_other_does() {
        let (room, now) = (room(1024 * 1024), Instant::now());
        let (busy, other) = (AgentId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));
        let mebibyte = 1024 * 1024;
        assert_eq!(room.note(busy, mebibyte, now), now, "a second's worth at once");
        let wait = room.note(busy, 10 * mebibyte, now) - now;
        assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(10), "{wait:?}");
        assert_eq!(room.note(other, mebibyte, now), now);
        assert_eq!(room.note(busy, mebibyte, now + Duration::from_secs(60)), now + Duration::from_secs(60), "paid");
    }

    #[test]
    fn agents_that_owe_nothing_are_forgotten() {
        let (room, now) = (room(1 << 30), Instant::now());
        for number in 0..10_000u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            room.note(AgentId::from_bytes(id), 1, now + Duration::from_millis(number.into()));
        }
        assert!(room.debts.lock().unwrap().len() <= AGENTS_SWEPT + 1);
    }

    #[test]
    fn opens_and_empty_batches_cost_something_each() {
        let (room, now) = (room(32 * 1024 * 1024), Instant::now());
        let (busy, other) = (AgentId::from_bytes([1; 16]), AgentId::from_bytes([2; 16]));
        (0..OPENS_AT_ONCE).for_each(|_| assert_eq!(room.note_open(busy, now), now));
        assert_eq!(room.note_open(busy, now), now + OPEN_INTERVAL);
        assert_eq!(room.note_open(busy, now), now + 2 * OPEN_INTERVAL);
        assert_eq!((room.note_open(other, now), room.note(busy, 0, now)), (now, now), "of each its own");
        let last = (0..3 * 1024).map(|_| room.note(other, 0, now)).last().unwrap();
        assert!(last > now + Duration::from_millis(1990) && last < now + Duration::from_millis(2010), "{:?}", last - now);
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_until_there_is() {
        let room = Arc::new(Room::new(IngestLimits { in_flight: 0, ..IngestLimits::default() }));
        let first = Arc::clone(&room).take(usize::MAX).await.unwrap();
        let mut second = Box::pin(Arc::clone(&room).take(1));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
        drop(first);
        drop(second.await.unwrap());
    }
}
