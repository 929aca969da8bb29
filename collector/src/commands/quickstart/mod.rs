//! `quickstart`: collector and agent on this machine, loopback only, no configuration.
//!
//! The agent is a process of its own, joined and configured as on any host. All state lies in one directory; a second
//! run goes on with the same trail. Ctrl-C stops the agent first, so that what it holds still arrives.

mod agent;
mod kernel_audit;
mod layout;
mod welcome;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio_util::sync::CancellationToken;

use super::serve::{runtime, stop_at_signal};
use crate::config::{API_PORT, Config, INGEST_PORT};
use crate::run::{Collector, RunError};
use agent::AgentProcess;
use kernel_audit::KernelAudit;
use layout::Layout;

/// Where the state lies unless said otherwise.
const DIR: &str = ".edgetrail";

/// Where another port is looked for when the usual one is taken.
const PORTS_TRIED: u16 = 100;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  edgetrail-collector quickstart
  edgetrail-collector quickstart --dir /tmp/edgetrail --api-port 9443
  sudo edgetrail-collector quickstart --enable-audit      the kernel's audit too; its state is restored at the end

Ctrl-C stops both. A second run goes on with the same trail. Remove the directory to begin anew.")]
pub(super) struct Arguments {
    /// Where everything lies
    #[arg(long, default_value = DIR)]
    dir: PathBuf,
    /// The API's port on loopback [default: 8443, or the next free one]
    #[arg(long)]
    api_port: Option<u16>,
    /// The port on loopback where the agent connects [default: 7443, or the next free one]
    #[arg(long)]
    ingest_port: Option<u16>,
    /// Enables the kernel's audit while this runs (as root)
    #[arg(long)]
    enable_audit: bool,
    /// The agent's program [default: edgetrail-agent beside this one, else in PATH]
    #[arg(long, value_name = "PROGRAM")]
    agent: Option<PathBuf>,
}

pub(super) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let layout = Layout::create(&arguments.dir)?;
    let program = agent::program(arguments.agent)?;
    write_configuration(&layout, arguments.api_port, arguments.ingest_port)?;
    let config = Config::load(Some(&layout.collector_config()))?;
    let audit = KernelAudit::prepare(arguments.enable_audit)?;
    let done = runtime()?.block_on(run_both(&layout, &config, program, &audit));
    audit.restore();
    done.map(|()| ExitCode::SUCCESS)
}

async fn run_both(layout: &Layout, config: &Config, program: PathBuf, audit: &KernelAudit) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut signals = tokio::task::JoinSet::new();
    signals.spawn(stop_at_signal(stop.clone()));

    let collector = match Collector::start(config).await {
        Err(error @ RunError::Listen { .. }) => {
            let ports = "is another quickstart running? Stop it, or give --api-port and --ingest-port another value";
            return Err(anyhow::Error::from(error).context(ports));
        }
        started => started?,
    };
    let key = layout.access_key(config, &collector.control)?;
    layout.write_env(config, &key)?;

    let (api_port, control, pin) = (collector.api_address.port(), collector.control.clone(), collector.pki.ca_pin());
    let collector_stop = CancellationToken::new();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(collector.run(collector_stop.clone()));

    let started = async {
        agent::join(layout, &program, config, &control, api_port, pin).await?;
        AgentProcess::start(layout, &program).await
    };
    let mut failed = Ok(());
    let agent = tokio::select! {
        agent = started => agent,
        () = stop.cancelled() => Err(anyhow::anyhow!("stopped while starting")),
        ended = running.join_next() => return Err(ended_early(ended)),
    };
    match agent {
        Err(error) => failed = Err(error),
        Ok(mut agent) => {
            welcome::print(layout, config, &program, audit).await;
            tokio::select! {
                () = stop.cancelled() => println!("\nstopping …"),
                exit = agent.ended() => failed = exit,
                ended = running.join_next() => failed = Err(ended_early(ended)),
            }
            // First, so that it can close its stream and hand over what it holds.
            agent.stop().await;
        }
    }
    collector_stop.cancel();
    while let Some(ended) = running.join_next().await {
        let ended = ended.context("the collector panicked").and_then(|ended| Ok(ended?));
        failed = failed.and(ended);
    }
    failed
}

fn ended_early(ended: Option<Result<Result<(), RunError>, tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok(Err(error))) => error.into(),
        Some(Err(panic)) => panic.into(),
        Some(Ok(Ok(()))) | None => anyhow::anyhow!("the collector ended early"),
    }
}

/// The first run writes the collector's configuration; later ones change only ports that are asked for.
fn write_configuration(layout: &Layout, api_port: Option<u16>, ingest_port: Option<u16>) -> anyhow::Result<()> {
    let known = match layout.collector_config().exists() {
        true => Some(Config::load(Some(&layout.collector_config()))?),
        false => None,
    };
    let port = |asked: Option<u16>, known: Option<u16>, usual: u16| match asked.or(known) {
        Some(port) => Ok(port),
        None => free_port(usual),
    };
    let api_port = port(api_port, known.as_ref().map(|config| config.api.listen.port()), API_PORT)?;
    let ingest_port = port(ingest_port, known.as_ref().map(|config| config.ingest.listen.port()), INGEST_PORT)?;
    if known.is_none_or(|config| config.api.listen.port() != api_port || config.ingest.listen.port() != ingest_port) {
        layout.write_collector_config(api_port, ingest_port)?;
    }
    layout.write_agent_config()
}

fn free_port(usual: u16) -> anyhow::Result<u16> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let Some(port) = (usual..usual.saturating_add(PORTS_TRIED)).find(free) else {
        bail!("no port from {usual} on is free on loopback: give one with --api-port and --ingest-port")
    };
    if port != usual {
        println!("port {usual} is in use: taking {port}");
    }
    Ok(port)
}

/// How long the agent may take to answer or to stop.
const AGENT_TIME_MAX: Duration = Duration::from_secs(10);
