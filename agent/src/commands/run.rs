//! `run`: capture until stopped.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  edgetrail-agent run\n  EDGETRAIL_AGENT__LOG=debug edgetrail-agent run --config agent.toml")]
pub(super) struct Arguments {
    /// Keep the state here instead of where the configuration says
    #[arg(long, value_name = "DIR")]
    state_dir: Option<std::path::PathBuf>,
}

/// Exit code after a second signal. Source: 128 + SIGINT, as shells count.
const EXIT_INTERRUPTED: i32 = 130;

pub(super) fn execute(arguments: &Arguments, mut config: Config) -> anyhow::Result<ExitCode> {
    if let Some(dir) = &arguments.state_dir {
        if config.control_socket.parent() == Some(&config.state_dir) {
            config.control_socket = dir.join("control.sock");
        }
        config.state_dir.clone_from(dir);
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&config.log).context("agent.log")?)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    // One thread for everything that waits; what computes or blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(16)
        .thread_stack_size(512 * 1024)
        .build()
        .context("the runtime can't be started")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let agent = crate::run::run(config, stop.clone());
        tokio::pin!(agent);
        loop {
            tokio::select! {
                ended = &mut agent => return ended.map(|()| ExitCode::SUCCESS).map_err(Into::into),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                tracing::warn!("stopped at once by a second signal: the next start reports a gap");
                std::process::exit(EXIT_INTERRUPTED);
            }
            stop.cancel();
        }
    })
}
