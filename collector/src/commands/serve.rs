//! `serve`: the collector until a signal.

use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Of, state};
use crate::run::{Collector, Relay};

pub(super) const EXAMPLES: &str = "Examples:
  edgetrail-collector serve
  edgetrail-collector serve --config ./collector.toml
  EDGETRAIL_TRAIL__LOG_INTERVAL=1m edgetrail-collector serve

SIGTERM or Ctrl-C stops it in order; a second one at once.";

pub(super) fn run(of: &Of) -> anyhow::Result<ExitCode> {
    let config = state::config(of)?;
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(stop_at_signal(stop.clone()));
        match &config.relay {
            Some(relay) => Relay::start(&config, relay).await?.run(stop).await?,
            None => Collector::start(&config).await?.run(stop).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime can't be started")
}

/// The first signal stops in order, the second ends the process: what is durable is so, and nothing else was promised.
pub(super) async fn stop_at_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut next = async || {
        tokio::select! {
            _ = interrupt.recv() => 130,
            _ = terminate.recv() => 143,
        }
    };
    next().await;
    stop.cancel();
    let code = next().await;
    std::process::exit(code)
}
