//! What systemd is told: ready, stopping, and that the collector is alive. Without systemd all of it is nothing.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::ledger::{Ledger, LedgerError};

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says so at half of WatchdogSec=, as long as the ledger can be read.
pub(super) async fn watchdog(ledger: Ledger, stop: CancellationToken) -> Result<(), LedgerError> {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        stop.cancelled().await;
        return Ok(());
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep((interval / 2).max(Duration::from_millis(100))) => {}
        }
        let ledger = ledger.clone();
        let read = tokio::task::spawn_blocking(move || ledger.index(0, 1, 1).map(|_| ())).await;
        read.map_err(|_panicked| LedgerError::Stopped)??;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
