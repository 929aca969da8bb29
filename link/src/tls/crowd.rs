//! How many connections there may be: on the port, of one address in the handshake, of one agent after it.
//!
//! ```text
//! accepted → address: rate, unfinished handshakes → port: connections → handshake → agent: connections, the newest stay
//! ```
//! Whoever is refused here is refused before any cryptography, but for the last: whose connection it is, is known then.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::peer::PeerId;
use crate::allowance::Allowances;

/// Most handshakes at a time. At some 1 ms of CPU each, a full set is a quarter of a second of one core.
pub const HANDSHAKES_MAX: usize = 256;

/// Most unfinished handshakes of one address: a quarter of all.
pub const HANDSHAKES_OF_ADDRESS_MAX: usize = 64;

/// An unfinished handshake this old gives way to a new one where there is no room: two round trips around the earth.
pub(super) const HANDSHAKE_GIVES_WAY: Duration = Duration::from_secs(1);

/// New connections of one address: so many at once (a fleet behind one address), then one each 10 ms.
const ARRIVALS_BURST: u32 = 512;
const ARRIVALS_REFILL: Duration = Duration::from_millis(10);

/// Most connections on a port, where none is configured: ten thousand agents, and some that are being replaced.
pub const CONNECTIONS_MAX: usize = 12_000;

/// Most connections of one agent: it needs one, and a second while it replaces the first.
pub const CONNECTIONS_OF_AGENT_MAX: usize = 4;

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub struct CrowdLimits {
    /// On the port, unfinished handshakes included.
    pub connections: usize,
    /// Of one address.
    pub connections_of_address: usize,
}

impl Default for CrowdLimits {
    /// A fleet may stand behind one address: what bounds an agent's connections is its certificate.
    fn default() -> Self {
        Self { connections: CONNECTIONS_MAX, connections_of_address: CONNECTIONS_MAX }
    }
}

/// Who is there.
#[derive(Debug)]
pub(super) struct Crowd {
    arrivals: Allowances,
    limits: CrowdLimits,
    connections: Arc<AtomicUsize>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    handshakes: Vec<Handshake>,
    agents: Arc<Mutex<HashMap<PeerId, VecDeque<CancellationToken>>>>,
}

/// One that is unfinished.
#[derive(Debug)]
struct Handshake {
    address: IpAddr,
    since: Instant,
    abort: AbortHandle,
}

/// Whether a new connection may begin its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// Not for this connection: it is closed.
    Refused,
}

/// A connection's place on the port; left when dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<AtomicUsize>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

/// A connection's place among its agent's; left when dropped.
#[derive(Debug)]
pub(super) struct AgentPlace {
    agents: Arc<Mutex<HashMap<PeerId, VecDeque<CancellationToken>>>>,
    agent: PeerId,
    displaced: CancellationToken,
}

impl Crowd {
    pub(super) fn new(limits: CrowdLimits) -> Self {
        Self {
            arrivals: Allowances::new(ARRIVALS_BURST, ARRIVALS_REFILL),
            limits,
            connections: Arc::default(),
            addresses: Arc::default(),
            handshakes: Vec::new(),
            agents: Arc::default(),
        }
    }

    /// Whether the set of handshakes has room for one more, after the oldest one has given way if it must.
    pub(super) fn has_room(&mut self, now: Instant) -> bool {
        self.handshakes.retain(|handshake| !handshake.abort.is_finished());
        self.handshakes.len() < HANDSHAKES_MAX || self.give_way(now, |_| true)
    }

    /// Judges a connection by its address.
    pub(super) fn arrive(&mut self, address: IpAddr, now: Instant) -> Room {
        let connected = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).get(&address).copied().unwrap_or(0);
        if self.arrivals.wait(address, now).is_some()
            || self.connections.load(Ordering::Relaxed) >= self.limits.connections
            || connected >= self.limits.connections_of_address
        {
            return Room::Refused;
        }
        self.arrivals.take(address, now);
        let of_address = self.handshakes.iter().filter(|handshake| handshake.address == address).count();
        if of_address >= HANDSHAKES_OF_ADDRESS_MAX && !self.give_way(now, |handshake| handshake.address == address) {
            return Room::Refused;
        }
        Room::Free
    }

    pub(super) fn begin(&mut self, address: IpAddr, now: Instant, abort: AbortHandle) {
        self.handshakes.push(Handshake { address, since: now, abort });
    }

    /// Ends the oldest handshake of these, if it is old enough.
    fn give_way(&mut self, now: Instant, of: impl Fn(&Handshake) -> bool) -> bool {
        // In order of beginning: the first is the oldest.
        let oldest = self.handshakes.iter().position(of);
        let Some(at) = oldest.filter(|&at| {
            self.handshakes.get(at).is_some_and(|handshake| now.saturating_duration_since(handshake.since) >= HANDSHAKE_GIVES_WAY)
        }) else {
            return false;
        };
        self.handshakes.remove(at).abort.abort();
        true
    }

    /// Counts a connection from before its handshake on.
    pub(super) fn place(&self, address: IpAddr) -> Place {
        self.connections.fetch_add(1, Ordering::Relaxed);
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default() += 1;
        Place { connections: Arc::clone(&self.connections), addresses: Arc::clone(&self.addresses), address }
    }

    pub(super) fn agents(&self) -> AgentPlaces {
        AgentPlaces(Arc::clone(&self.agents))
    }
}

/// Where connections of agents take their places.
#[derive(Debug)]
pub(super) struct AgentPlaces(Arc<Mutex<HashMap<PeerId, VecDeque<CancellationToken>>>>);

impl AgentPlaces {
    /// Takes a place; the agent's oldest connection gives way where it has too many.
    pub(super) fn enter(&self, agent: PeerId) -> AgentPlace {
        let displaced = CancellationToken::new();
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = agents.entry(agent.clone()).or_default();
        while connections.len() >= CONNECTIONS_OF_AGENT_MAX {
            if let Some(oldest) = connections.pop_front() {
                oldest.cancel();
            }
        }
        connections.push_back(displaced.clone());
        AgentPlace { agents: Arc::clone(&self.0), agent, displaced }
    }
}

impl AgentPlace {
    /// Ready once the place is needed for a newer connection.
    pub(super) fn displaced(&self) -> WaitForCancellationFutureOwned {
        self.displaced.clone().cancelled_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

impl Drop for AgentPlace {
    fn drop(&mut self) {
        // Tokens of one connection alone are cancelled or equal here: mark this one, then drop what is marked.
        self.displaced.cancel();
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connections) = agents.get_mut(&self.agent) {
            connections.retain(|connection| !connection.is_cancelled());
            if connections.is_empty() {
                agents.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use edgetrail_proto::identity::AgentId;

    use super::*;

    #[test]
    fn an_agents_newest_connections_stay_and_places_are_left() {
        let crowd = Crowd::new(CrowdLimits::default());
        let (agents, agent) = (crowd.agents(), PeerId::Agent(AgentId::from_bytes([1; 16])));
        let mut places: Vec<AgentPlace> = (0..CONNECTIONS_OF_AGENT_MAX + 2).map(|_| agents.enter(agent.clone())).collect();
        let displaced: Vec<bool> = places.iter().map(|place| place.displaced.is_cancelled()).collect();
        assert_eq!(displaced, [true, true, false, false, false, false]);
        places.drain(..2);
        assert_eq!(crowd.agents.lock().unwrap()[&agent].len(), CONNECTIONS_OF_AGENT_MAX);
        places.clear();
        assert!(crowd.agents.lock().unwrap().is_empty());
    }

    #[test]
    fn a_full_port_and_a_busy_address_are_refused() {
        let (mut crowd, now) = (Crowd::new(CrowdLimits { connections: 2, connections_of_address: 2 }), Instant::now());
        let (busy, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        assert_eq!((0..ARRIVALS_BURST).filter(|_| crowd.arrive(busy, now) == Room::Free).count(), ARRIVALS_BURST as usize);
        assert_eq!((crowd.arrive(busy, now), crowd.arrive(other, now)), (Room::Refused, Room::Free));
        let third: IpAddr = "192.0.2.3".parse().unwrap();
        let places = [crowd.place(other), crowd.place(third)];
        assert_eq!(crowd.arrive(other, now), Room::Refused, "the port is full");
        drop(places);
        assert_eq!(crowd.arrive(other, now), Room::Free);
        crowd.limits = CrowdLimits { connections: 10, connections_of_address: 2 };
        let places = [crowd.place(other), crowd.place(other)];
        assert_eq!(
            (crowd.arrive(other, now), crowd.arrive(third, now)),
            (Room::Refused, Room::Free),
            "the address has its share"
        );
        drop(places);
        assert_eq!(crowd.arrive(other, now), Room::Free);
    }

    #[tokio::test]
    async fn an_old_handshake_gives_way_and_a_young_one_does_not() {
        let (mut crowd, now) = (Crowd::new(CrowdLimits::default()), Instant::now());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..HANDSHAKES_OF_ADDRESS_MAX {
            crowd.begin(address, now, tasks.spawn(std::future::pending::<()>()));
        }
        assert_eq!(crowd.arrive(address, now), Room::Refused);
        assert_eq!(crowd.arrive("192.0.2.2".parse().unwrap(), now), Room::Free);
        assert_eq!(crowd.arrive(address, now + HANDSHAKE_GIVES_WAY), Room::Free);
        assert!(tasks.join_next().await.unwrap().unwrap_err().is_cancelled(), "the oldest one was ended");
    }
}
