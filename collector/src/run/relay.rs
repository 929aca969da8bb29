//! A collector in the role of a relay: ingest, what goes on to home, and nothing else.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use edgetrail_disk::Medium;
use edgetrail_link::transport::Tcp;
use tokio_util::sync::CancellationToken;

use super::{PORTS_STOP_MAX, RunError, STAGE_STOP_MAX, Stage};
use super::{address, authority, create_state_dir, hold_state_dir, listen, notify, open_error, run_stages};
use crate::api;
use crate::config::{Config, RelayConfig};
use crate::ingest::Ingest;
use crate::ledger::{Ledger, LedgerOptions, Role};
use crate::relay::{self, Forwarder, ForwarderOptions, Home, PassedOn, Progress, RelayPapers};

/// A relay whose ports are bound and whose tasks run.
#[derive(Debug)]
pub struct Relay {
    pub ingest_address: SocketAddr,
    pub api_address: SocketAddr,
    stages: Vec<Stage>,
    /// Released when all has ended.
    _hold: std::fs::File,
}

impl Relay {
    /// Opens everything that a relay has and serves. Nothing runs on when this fails.
    pub async fn start(config: &Config, relay: &RelayConfig) -> Result<Self, RunError> {
        let dir = &config.state_dir;
        create_state_dir(dir).map_err(|source| RunError::StateDir { path: dir.clone(), source })?;
        let hold = hold_state_dir(dir)?;
        let ingest_listener = listen("ingest", "ingest", &config.ingest).await?;
        let api_listener = listen("joining", "api", &config.api).await?;
        let ingest_address = address(&ingest_listener, &config.ingest);
        let api_address = address(&api_listener, &config.api);

        let mut papers = RelayPapers::load(dir).map_err(open_error("the relay's identity"))?;
        papers.url = relay.home.clone();
        let (signer, name, endpoint) = (Arc::new(papers.signer()), papers.identity.name.clone(), papers.home.clone());
        let (home, trust, credentials) = Home::open(dir.clone(), papers).map_err(open_error("the relay's identity"))?;

        let mut options = LedgerOptions::new(signer);
        options.role = Role::Relay;
        options.retention = config.ledger_retention;
        options.consumers = vec![relay::CONSUMER.to_owned()];
        let (ledger, ledger_task) = Ledger::open(&dir.join("ledger"), options).map_err(open_error("the ledger"))?;
        let mut storing = Stage::new("ledger", STAGE_STOP_MAX);
        storing.spawn("ledger", ledger_task.run(storing.stop.clone()));

        let progress = Arc::new(Progress::open(&Medium::real(), dir).map_err(open_error("the record of home's receipts"))?);
        let options = ForwarderOptions { dial: Tcp::dialer(), home: endpoint, credentials };
        let (forwarder, standing) = Forwarder::new(ledger.clone(), Arc::clone(&progress), options);
        let home = home.minding(ledger.clone(), Arc::clone(&progress), standing);
        let mut bringing = Stage::new("forwarder", STAGE_STOP_MAX);
        bringing.spawn("forwarder", forwarder.run(bringing.stop.clone()));

        let mut serving = Stage::new("ports", PORTS_STOP_MAX);
        let port = ingest_address.port();
        let here = config.ingest.names.first().map_or_else(|| format!(":{port}"), |name| authority(name, port));
        let enrollment = PassedOn::new(home.papers(), here).server();
        let ingest = Ingest::trusting(ledger.clone(), Arc::new(trust.clone()), None, config.limits).noticing(progress);
        serving.spawn("ingest", ingest.serve(ingest_listener, serving.stop.clone()));
        let router = Router::new()
            .route("/healthz", axum::routing::get(|| async { "ok\n" }))
            .route_service("/edgetrail.v1.Enrollment/{method}", enrollment);
        let server = api::serve(api_listener, trust.api_tls(), router, serving.stop.clone());
        serving.spawn_plain("api", server.join());
        serving.spawn_plain("news of home", home.run(serving.stop.clone()));
        serving.spawn("watchdog", notify::watchdog(ledger, serving.stop.clone()));
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        tracing::info!(%name, ingest = %ingest_address, api = %api_address, state_dir = %dir.display(), "relay started");
        notify::ready();
        let stages = vec![serving, bringing, storing];
        Ok(Self { ingest_address, api_address, stages, _hold: hold })
    }

    /// Until `stop`, or until a task ends early. Every stage has ended, or run out of its time, when this returns.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        run_stages(self.stages, stop).await
    }
}
