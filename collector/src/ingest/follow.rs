//! What a relay is told as it changes: roots, receipt keys, who is revoked or has forked, and under which key home signs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::PeerId;
use edgetrail_link::wire;
use edgetrail_proto::identity::RelayName;
use tokio::sync::mpsc;
use tonic::Status;

use super::Context;

/// Roots and receipt keys are looked at this often. Source: as often as the PKI looks at its files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Forks that a relay is told of; older ones it has heard of before.
const FORKS_TOLD_MAX: u32 = 4096;

/// Tells until the relay hangs up, is revoked, or the collector stops.
pub(super) async fn follow(context: Arc<Context>, relay: RelayName, states: mpsc::Sender<Result<wire::HomeState, Status>>) {
    let turn = context.followers.begin(&relay);
    note(&context, &relay, Some(unix_ns())).await;
    tell(&context, PeerId::Relay(relay.clone()), states).await;
    // A connection that replaces another one begins before that one ends.
    if context.followers.is_last(&relay, turn) {
        note(&context, &relay, None).await;
    }
}

/// What `relay list` shows of it is no reason to hang up.
async fn note(context: &Arc<Context>, relay: &RelayName, since_ns: Option<u64>) {
    let (trust, name) = (Arc::clone(&context.trust), relay.clone());
    let noted = tokio::task::spawn_blocking(move || trust.connected(&name, since_ns)).await;
    if let Ok(Err(error)) = noted {
        tracing::warn!(%relay, error = &error as &dyn std::error::Error, "a relay's connection can't be noted");
    }
}

async fn tell(context: &Arc<Context>, relay: PeerId, states: mpsc::Sender<Result<wire::HomeState, Status>>) {
    let mut revoked = context.trust.revoked();
    let mut told = None;
    loop {
        let of = Arc::clone(context);
        let state = match tokio::task::spawn_blocking(move || state(&of)).await {
            Ok(Ok(state)) => state,
            Ok(Err(error)) => {
                tracing::warn!(error = &*error, %relay, "what a relay must know can't be read");
                drop(states.send(Err(Status::unavailable("home can't say now"))).await);
                return;
            }
            Err(_panicked) => return,
        };
        if revoked.borrow_and_update().contains(&relay) {
            // Whoever hung up is told nothing.
            drop(states.send(Err(Status::permission_denied("this relay is revoked"))).await);
            return;
        }
        if told.as_ref() != Some(&state) {
            if states.send(Ok(state.clone())).await.is_err() {
                return;
            }
            told = Some(state);
        }
        tokio::select! {
            () = context.stop.cancelled() => return,
            () = states.closed() => return,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
            Ok(()) = revoked.changed() => {}
        }
    }
}

/// Which of a relay's connections was the last to follow.
#[derive(Debug, Default)]
pub(super) struct Followers(Mutex<HashMap<RelayName, u64>>);

impl Followers {
    fn begin(&self, relay: &RelayName) -> u64 {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(relay.clone()).or_default();
        *turn += 1;
        *turn
    }

    fn is_last(&self, relay: &RelayName, turn: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(relay) == Some(&turn)
    }
}

fn unix_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Blocks on disk.
fn state(context: &Context) -> Result<wire::HomeState, Box<dyn std::error::Error + Send + Sync>> {
    let mut keys: Vec<ReceiptKey> = context.trust.receipt_keys().iter().cloned().collect();
    // The map's order is nobody's: what did not change is not told again.
    keys.sort_by_key(|key| key.public_key.0);
    let revoked = context.trust.revoked();
    let revoked_agents = revoked.borrow().agents.iter().map(|agent| Bytes::copy_from_slice(agent.as_bytes())).collect();
    let mut forked_agents = Vec::new();
    for (agent, frozen) in context.ledger.frozen(FORKS_TOLD_MAX)? {
        let joined = context.trust.joined_ns(&PeerId::Agent(agent))?.unwrap_or(0);
        forked_agents.push(wire::ForkedAgent { agent_id: agent.as_bytes().to_vec().into(), frozen, joined });
    }
    Ok(wire::HomeState {
        roots: context.trust.roots().iter().map(|root| Bytes::copy_from_slice(root)).collect(),
        receipt_keys: keys.iter().map(ReceiptKey::to_wire).collect(),
        revoked_agents,
        signs_as: context.ledger.signs_as().0.to_vec().into(),
        forked_agents,
    })
}
