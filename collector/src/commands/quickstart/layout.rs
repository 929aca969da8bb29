//! The files of a quickstart: what lies where in its directory.
//!
//! ```text
//! collector.toml  collector/   configuration and state of the collector
//! agent.toml      agent/       of the agent; agent.log, agent.sock
//! trail/edgetrail/AWSLogs/…    what is delivered
//! env.sh                       sourced, it points the AWS CLI and SDKs at this collector
//! ```

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::commands::state::now_ns;
use crate::config::Config;
use crate::control::{AccessKey, Control};

/// The account and region of a quickstart. Documentation's account; a region whose form clients accept.
const ACCOUNT: &str = "111122223333";
const REGION: &str = "dc-local-1";

/// Longest path of a Unix socket, in bytes. Source: unix(7), sun_path of 108 with its closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

pub(super) struct Layout {
    /// Absolute, so that env.sh works from everywhere.
    dir: PathBuf,
}

impl Layout {
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).and_then(|()| dir.canonicalize());
        let dir =
            made.with_context(|| format!("{} can't be made: give a directory that you may write with --dir", dir.display()))?;
        let layout = Self { dir };
        if layout.socket().as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            bail!("{} is too long for a Unix socket's path: give a shorter --dir", layout.socket().display());
        }
        if layout.dir.to_str().is_none_or(|path| path.contains(['"', '\'', '\\', '\n', '$', '`'])) {
            bail!("{} can't be written into env.sh: give a plainer --dir", layout.dir.display());
        }
        Ok(layout)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn collector_config(&self) -> PathBuf {
        self.dir.join("collector.toml")
    }

    pub(super) fn agent_config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    pub(super) fn agent_state(&self) -> PathBuf {
        self.dir.join("agent")
    }

    pub(super) fn agent_log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.dir.join("agent.sock")
    }

    pub(super) fn trail(&self) -> PathBuf {
        self.dir.join("trail")
    }

    pub(super) fn env(&self) -> PathBuf {
        self.dir.join("env.sh")
    }

    pub(super) fn write_collector_config(&self, api_port: u16, ingest_port: u16) -> anyhow::Result<()> {
        let dir = self.dir.display();
        let text = format!(
            "# Written by `edgetrail-collector quickstart`; what is changed here stays.
[collector]
account = \"{ACCOUNT}\"
region = \"{REGION}\"
state_dir = \"{dir}/collector\"

[ingest]
listen = \"127.0.0.1:{ingest_port}\"
names = [\"127.0.0.1\"]

[api]
listen = \"127.0.0.1:{api_port}\"
names = [\"127.0.0.1\"]

[trail]
log_interval = \"10s\"
digest_interval = \"60s\"

[trail.sink]
kind = \"directory\"
path = \"{dir}/trail\"
"
        );
        self.write(&self.collector_config(), &text)
    }

    /// Only the first time: what is changed in it stays.
    pub(super) fn write_agent_config(&self) -> anyhow::Result<()> {
        if self.agent_config().exists() {
            return Ok(());
        }
        let text = format!(
            "# Written by `edgetrail-collector quickstart`; what is changed here stays.
[agent]
state_dir = \"{}\"

[sources.api]
path = \"{}\"
",
            self.agent_state().display(),
            self.socket().display(),
        );
        self.write(&self.agent_config(), &text)
    }

    /// The key in env.sh while the collector knows it, else a new one.
    pub(super) fn access_key(&self, config: &Config, control: &Control) -> anyhow::Result<AccessKey> {
        let env = std::fs::read_to_string(self.env()).unwrap_or_default();
        let id = env.lines().find_map(|line| line.strip_prefix("export AWS_ACCESS_KEY_ID="));
        if let Some(key) = id.map(|id| control.access_key(id)).transpose()?.flatten() {
            return Ok(key);
        }
        control.create_access_key(config.home.account, "quickstart", None, now_ns()).context("an access key can't be made")
    }

    pub(super) fn write_env(&self, config: &Config, key: &AccessKey) -> anyhow::Result<()> {
        let region = &config.home.region;
        let trail = config.trail_arn();
        let text = format!(
            "# source this: the AWS CLI and SDKs, and edgetrail's own tools, then talk to this collector
export AWS_ENDPOINT_URL=https://127.0.0.1:{}
export AWS_ACCESS_KEY_ID={}
export AWS_SECRET_ACCESS_KEY={}
export AWS_REGION={region}
export AWS_DEFAULT_REGION={region}
export AWS_CA_BUNDLE='{}'
export EDGETRAIL_SOCKET='{}'
export EDGETRAIL_TRAIL_ARN='{trail}'
unset AWS_PROFILE AWS_SESSION_TOKEN
",
            config.api.listen.port(),
            key.id,
            key.secret,
            self.dir.join("collector/pki/ca.pem").display(),
            self.socket().display(),
        );
        self.write(&self.env(), &text)
    }

    /// Whole or not at all, readable to its owner alone: env.sh holds a secret.
    fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
        let written = file.as_mut().map_err(|error| std::io::Error::from(error.kind())).and_then(|file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&fresh, path)).with_context(|| format!("{} can't be written", path.display()))
    }
}
