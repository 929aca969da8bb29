//! What operators decide on relays, put into effect: whose receipts are trusted, and for whom nobody waits any more.
//!
//! The commands write the control store; this reads it. Everything here may be done again: at start all of it is.

use edgetrail_proto::chain::Hash;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::losses::{LossError, report_losses};
use crate::control::{Control, Relay};
use crate::internal::Internal;
use crate::ledger::Ledger;
use crate::pki::Pki;

/// Home's relays, as the control store has them.
#[derive(Debug)]
pub struct Relays {
    relays: watch::Receiver<Vec<Relay>>,
    pki: Pki,
    ledger: Ledger,
    internal: Internal,
}

impl Relays {
    /// Puts into effect what is decided already: before the first session, whose evidence may be a relay's receipt.
    pub async fn start(control: &Control, pki: &Pki, ledger: &Ledger, internal: &Internal) -> Result<Self, LossError> {
        let relays = control.watch_relays();
        let mut relays = Self { relays, pki: pki.clone(), ledger: ledger.clone(), internal: internal.clone() };
        relays.take_effect().await?;
        Ok(relays)
    }

    /// Puts into effect whatever changes, until stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.relays.changed() => if changed.is_err() { return },
            }
            if let Err(error) = self.take_effect().await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a change of the relays is not in effect yet: it is at the next one, and at start"
                );
            }
        }
    }

    async fn take_effect(&mut self) -> Result<(), LossError> {
        let relays = self.relays.borrow_and_update().clone();
        let (pki, trusted) = (self.pki.clone(), self.relays.clone());
        let trusting = tokio::task::spawn_blocking(move || pki.trust_relays(&trusted)).await;
        trusting.map_err(|_panicked| crate::ledger::LedgerError::Stopped)??;
        for relay in relays.iter().filter(|relay| relay.forgotten_ns.is_some()) {
            for key in &relay.receipt_keys {
                let given_up = self.ledger.forget(Hash::of(&key.public_key.0)).await?;
                if !given_up.is_empty() {
                    tracing::error!(relay = %relay.name, streams = given_up.len(), "relay forgotten: streams go on without it");
                }
            }
        }
        report_losses(&self.ledger, &self.internal).await
    }
}
