//! The agent's process: joined once, started, watched, stopped.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use edgetrail_link::tls::CaPin;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::AGENT_TIME_MAX;
use super::layout::Layout;
use crate::commands::state::now_ns;
use crate::config::Config;
use crate::control::{Control, NewToken};

const PROGRAM: &str = "edgetrail-agent";

/// How often the agent's socket is tried while it starts.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A token of a quickstart lives for its join alone.
const TOKEN_TTL: Duration = Duration::from_secs(60);

/// Lines of the agent's log that are shown when it fails.
const LOG_LINES_SHOWN: usize = 10;

pub(super) struct AgentProcess {
    child: Child,
    log: PathBuf,
}

/// Beside this program, else wherever PATH finds it.
pub(super) fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(program) = named {
        return if program.exists() { Ok(program) } else { bail!("{} does not exist", program.display()) };
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(PROGRAM)));
    if let Some(program) = beside.filter(|program| program.exists()) {
        return Ok(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(PROGRAM)).find(|program| program.exists());
    found.with_context(|| format!("{PROGRAM} is neither beside this program nor in PATH: install it, or name it with --agent"))
}

/// Joins with a token made for this, unless the agent has joined before.
pub(super) async fn join(
    layout: &Layout,
    program: &Path,
    config: &Config,
    control: &Control,
    api_port: u16,
    pin: CaPin,
) -> anyhow::Result<()> {
    if layout.agent_state().join("identity.json").exists() {
        return Ok(());
    }
    let scopes = vec![(config.home.account, config.home.region.clone())];
    let token = NewToken { scopes, gateway: false, ttl: TOKEN_TTL, uses: 1 };
    let token = control.create_token(&token, now_ns()).context("a token can't be made")?;
    let url = format!("https://127.0.0.1:{api_port}");
    let mut join = Command::new(program);
    join.arg("join").arg(url).arg("--token").arg(token.text).arg("--ca-pin").arg(pin.to_string());
    join.arg("--config").arg(layout.agent_config()).stdin(Stdio::null()).kill_on_drop(true);
    let joined = tokio::time::timeout(AGENT_TIME_MAX, join.output()).await.context("the agent took too long to join")?;
    let joined = joined.with_context(|| format!("{} can't be started", program.display()))?;
    if !joined.status.success() {
        bail!("the agent could not join: {}", String::from_utf8_lossy(&joined.stderr).trim());
    }
    Ok(())
}

impl AgentProcess {
    /// Started, and listening on its socket.
    pub(super) async fn start(layout: &Layout, program: &Path) -> anyhow::Result<Self> {
        let log = layout.agent_log();
        let output = File::options().create(true).append(true).open(&log);
        let output = output.with_context(|| format!("{} can't be written", log.display()))?;
        let errors = output.try_clone().context("the agent's log can't be shared")?;
        let mut command = Command::new(program);
        command.arg("run").arg("--config").arg(layout.agent_config());
        command.stdin(Stdio::null()).stdout(output).stderr(errors).kill_on_drop(true);
        // A group of its own: Ctrl-C reaches this process, which then stops the agent in order.
        command.process_group(0);
        let child = command.spawn().with_context(|| format!("{} can't be started", program.display()))?;
        let mut agent = Self { child, log };
        let listening = async {
            while tokio::net::UnixStream::connect(layout.socket()).await.is_err() {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::select! {
            listening = tokio::time::timeout(AGENT_TIME_MAX, listening) => {
                if listening.is_err() {
                    bail!("the agent does not listen on {} yet; its log:\n{}", layout.socket().display(), agent.last_lines());
                }
            }
            ended = agent.ended() => ended?,
        }
        Ok(agent)
    }

    /// When the agent ends by itself: always an error here.
    pub(super) async fn ended(&mut self) -> anyhow::Result<()> {
        let status = self.child.wait().await.context("the agent can't be waited for")?;
        let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
        bail!("the agent ended ({how}); its log, {}:\n{}", self.log.display(), self.last_lines())
    }

    /// In order if it can, by force after a while.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid
            && kill_process(pid, Signal::TERM).is_ok()
            && tokio::time::timeout(AGENT_TIME_MAX, self.child.wait()).await.is_err()
        {
            eprintln!("the agent did not stop in time and is killed; its next start goes on from what is durable");
            // It has ended by itself if this fails.
            drop(self.child.kill().await);
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(LOG_LINES_SHOWN).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
