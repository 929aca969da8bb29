//! What a relay is told as it changes: roots, receipt keys, and who is revoked.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::tls::PeerId;
use edgetrail_link::wire;
use tokio::sync::mpsc;
use tonic::Status;

use super::Context;

/// Roots and receipt keys are looked at this often. Source: as often as the PKI looks at its files.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// Tells until the relay hangs up, is revoked, or the collector stops.
pub(super) async fn tell(context: Arc<Context>, relay: PeerId, states: mpsc::Sender<Result<wire::HomeState, Status>>) {
    let mut revoked = context.trust.revoked();
    let mut told = None;
    loop {
        let state = state(&context);
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

fn state(context: &Context) -> wire::HomeState {
    let mut keys: Vec<ReceiptKey> = context.trust.receipt_keys().iter().cloned().collect();
    // The map's order is nobody's: what did not change is not told again.
    keys.sort_by_key(|key| key.public_key.0);
    let revoked = context.trust.revoked();
    let revoked_agents = revoked.borrow().agents.iter().map(|agent| Bytes::copy_from_slice(agent.as_bytes())).collect();
    wire::HomeState {
        roots: context.trust.roots().iter().map(|root| Bytes::copy_from_slice(root)).collect(),
        receipt_keys: keys.iter().map(ReceiptKey::to_wire).collect(),
        revoked_agents,
    }
}
