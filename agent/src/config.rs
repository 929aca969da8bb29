//! The configuration: the files' shape, then the validated one.
//!
//! `agent.toml`, then its drop-ins `agent.d/*.toml` in order of name, then `EDGETRAIL_SECTION__KEY` variables: later
//! ones win key by key. Every error is found at once and names its file and line; an unknown key names the nearest
//! known one. Sections of the collector are not looked into: both may share one file or environment. Every default is
//! a constant beside its stage; docs/agent.toml shows them all and is parsed by a test.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgetrail_proto::identity::{AccountId, Region};
use edgetrail_settings::{Document, Layer, LayerError, Parsed, Size, Span, layers, variables};
use serde::Deserialize;

use crate::buffer::Limits;
use crate::enroll::Supplied;
use crate::observation::SourceName;
use crate::sources::api::AnswerAfter;
use crate::sources::audit::kernel::Stream;
use crate::sources::audit::rules;
use crate::sources::{api, cloudtrail, docker, file, journal, kubernetes, otlp, proxy, sudo, syslog, vault};
use crate::{redact, select};

/// Where `run` looks when no file is named.
pub const CONFIG_FILE: &str = "/etc/edgetrail/agent.toml";

/// Where the state lies. Source: systemd's StateDirectory= of the shipped unit.
pub const STATE_DIR: &str = "/var/lib/edgetrail-agent";

/// How long an orderly stop may take. Source: half of systemd's TimeoutStopSec=.
const STOP_GRACE: Duration = Duration::from_secs(15);

/// Sections of the collector's configuration.
const OTHERS_SECTIONS: [&str; 8] = ["collector", "ingest", "api", "pki", "limits", "ledger", "history", "trail"];

/// What an agent runs by.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub state_dir: PathBuf,
    /// The host's name in records and in the streams' binding, where it is not to be the kernel's.
    pub host: Option<String>,
    pub control_socket: PathBuf,
    pub keep_raw: bool,
    /// A filter of tracing's, such as `info` or `edgetrail_agent=debug`.
    pub log: String,
    pub stop_grace: Duration,
    pub sources: Sources,
    pub select: select::Config,
    pub redact: redact::Config,
    pub buffer: Limits,
    pub uplink: Uplink,
    /// A certificate of a PKI of the operator's own, instead of one that join gives.
    pub identity: Option<Supplied>,
}

/// `[sources]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sources {
    pub audit: Audit,
    pub journal: journal::Config,
    pub file: Vec<file::Config>,
    pub api: api::Config,
    pub kubernetes: kubernetes::Config,
    pub otlp: otlp::Config,
    pub docker: docker::Config,
    pub vault: vault::Config,
    pub syslog: syslog::Config,
    pub cloudtrail: Vec<cloudtrail::Config>,
    pub sudo: sudo::Config,
    pub proxy: Vec<proxy::Config>,
}

/// `[sources.audit]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    pub enabled: bool,
    pub mode: AuditMode,
    /// Of mode `plugin`: the socket of auditd's `af_unix` plugin; without it standard input.
    pub socket: Option<PathBuf>,
    /// Follow this audit.log instead, whatever the mode.
    pub log: Option<PathBuf>,
    pub rules: rules::Config,
}

/// Whose stream is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditMode {
    /// The kernel's group, beside a running auditd.
    #[default]
    Multicast,
    /// The kernel's own, in auditd's place.
    Unicast,
    /// auditd's.
    Plugin,
}

/// `[uplink]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Uplink {
    /// `host:port` of ingest, in order of preference, instead of those that join gave.
    pub collectors: Vec<String>,
    /// How long a preferred collector must have been reachable before the agent returns to it.
    pub return_after: Span,
}

/// All that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("the configuration has {} error(s):\n{}", .0.len(), .0.join("\n"))]
    Keys(Vec<String>),
}

/// `[agent]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AgentShape {
    state_dir: PathBuf,
    host: Option<String>,
    control_socket: Option<PathBuf>,
    keep_raw: bool,
    log: String,
    stop_grace: Span,
}

/// `[buffer]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BufferShape {
    max_bytes: Size,
    reserve_bytes: Size,
    min_free_bytes: Size,
    max_age: Option<Span>,
    seal_interval: Span,
}

/// `[identity]` as it is written: all of it, or nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct IdentityShape {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    roots: Vec<PathBuf>,
    account: Option<Parsed<AccountId>>,
    region: Option<Parsed<Region>>,
    partition: Option<String>,
}

impl IdentityShape {
    fn supplied(self, document: &mut Document) -> Option<Supplied> {
        let Self { certificate, key, roots, account, region, partition } = self;
        let nothing = certificate.is_none() && key.is_none() && roots.is_empty() && account.is_none() && region.is_none();
        if nothing {
            return None;
        }
        let partition = partition.unwrap_or_else(|| "aws".to_owned());
        match (certificate, key, account, region) {
            (Some(certificate), Some(key), Some(account), Some(region)) if !roots.is_empty() => {
                Some(Supplied { certificate, key, roots, account: account.0, region: region.0, partition })
            }
            _ => {
                document.error("identity", "give certificate, key, roots, account and region, or none of them");
                None
            }
        }
    }
}

impl Sources {
    /// When callers of a source are answered.
    pub fn answer_after(&self, source: SourceName) -> AnswerAfter {
        match source {
            SourceName::Api => self.api.answer_after,
            SourceName::Kubernetes => self.kubernetes.answer_after,
            SourceName::Otlp => self.otlp.answer_after,
            SourceName::Sudo => self.sudo.answer_after,
            // Nobody waits behind these.
            SourceName::Audit
            | SourceName::Journal
            | SourceName::File
            | SourceName::Docker
            | SourceName::Vault
            | SourceName::Syslog
            | SourceName::CloudTrail
            // Each proxy says it of its own requests.
            | SourceName::Proxy => AnswerAfter::Commit,
        }
    }
}

impl Audit {
    pub fn stream(&self) -> Stream {
        match self.mode {
            AuditMode::Multicast => Stream::Multicast,
            AuditMode::Unicast => Stream::Unicast,
            AuditMode::Plugin => Stream::Plugin { socket: self.socket.clone() },
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Self { enabled: true, mode: AuditMode::default(), socket: None, log: None, rules: rules::Config::default() }
    }
}

impl Default for Uplink {
    fn default() -> Self {
        Self { collectors: Vec::new(), return_after: Span(edgetrail_link::uplink::RETURN_AFTER) }
    }
}

impl Default for AgentShape {
    fn default() -> Self {
        Self {
            state_dir: STATE_DIR.into(),
            host: None,
            control_socket: None,
            keep_raw: false,
            log: "info".to_owned(),
            stop_grace: Span(STOP_GRACE),
        }
    }
}

impl Default for BufferShape {
    fn default() -> Self {
        let Limits { max_bytes, reserve_bytes, min_free_bytes, max_age, seal_interval, heartbeat_interval: _ } =
            Limits::default();
        Self {
            max_bytes: Size(max_bytes),
            reserve_bytes: Size(reserve_bytes),
            min_free_bytes: Size(min_free_bytes),
            max_age: max_age.map(Span),
            seal_interval: Span(seal_interval),
        }
    }
}

impl Config {
    /// Reads the file, its drop-ins and the environment. A missing file is an error only where it was named.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let layers = layers(path.unwrap_or(Path::new(CONFIG_FILE)), path.is_some())?;
        Self::parse(&layers, variables())
    }

    /// Later layers over earlier ones, `variables` over all of them.
    pub fn parse(layers: &[Layer], variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut document = Document::new(layers, variables, &OTHERS_SECTIONS);
        let agent: AgentShape = document.section("agent");
        let buffer: BufferShape = document.section("buffer");
        let config = Self {
            control_socket: agent.control_socket.unwrap_or_else(|| agent.state_dir.join("control.sock")),
            state_dir: agent.state_dir,
            host: agent.host,
            keep_raw: agent.keep_raw,
            log: agent.log,
            stop_grace: agent.stop_grace.0,
            sources: Sources {
                audit: document.section("sources.audit"),
                journal: document.section("sources.journal"),
                file: document.list("sources.file"),
                api: document.section("sources.api"),
                kubernetes: document.section("sources.kubernetes"),
                otlp: document.section("sources.otlp"),
                docker: document.section("sources.docker"),
                vault: document.section("sources.vault"),
                syslog: document.section("sources.syslog"),
                cloudtrail: document.list("sources.cloudtrail"),
                sudo: document.section("sources.sudo"),
                proxy: document.list("sources.proxy"),
            },
            select: document.section("select"),
            redact: document.section("redact"),
            buffer: Limits {
                max_bytes: buffer.max_bytes.0,
                reserve_bytes: buffer.reserve_bytes.0,
                min_free_bytes: buffer.min_free_bytes.0,
                max_age: buffer.max_age.map(|age| age.0),
                seal_interval: buffer.seal_interval.0,
                ..Limits::default()
            },
            uplink: document.section("uplink"),
            identity: None,
        };
        let supplied = document.section::<IdentityShape>("identity").supplied(&mut document);
        let config = Self { identity: supplied, ..config };
        config.validate(&mut document);
        match document.into_errors() {
            errors if errors.is_empty() => Ok(config),
            errors => Err(ConfigError::Keys(errors)),
        }
    }

    /// What no single key shows.
    fn validate(&self, document: &mut Document) {
        let Limits { max_bytes, reserve_bytes, seal_interval, .. } = &self.buffer;
        if *max_bytes < reserve_bytes.saturating_mul(4) {
            document.error("buffer.max_bytes", format!("{max_bytes} is less than four times buffer.reserve_bytes: raise it"));
        }
        if self.buffer.max_age.is_some_and(|age| age < Duration::from_secs(3600)) {
            document.error("buffer.max_age", "give at least 1h, or leave it out: a shorter cut of the uplink would stop capture");
        }
        if *seal_interval > edgetrail_proto::limits::SEAL_INTERVAL || seal_interval.is_zero() {
            document.error("buffer.seal_interval", "give a duration above 0 and up to 1s: what is not sealed can be rewritten");
        }
        if self.stop_grace > Duration::from_secs(300) {
            document.error("agent.stop_grace", "give at most 5m: a service manager kills what takes longer");
        }
        if self.host.as_deref().is_some_and(|host| host.is_empty() || host.contains(['/', '\n'])) {
            document.error("agent.host", "give a host name without `/` and line feeds");
        }
        if self.sources.audit.socket.is_some() && self.sources.audit.mode != AuditMode::Plugin {
            document.error("sources.audit.socket", "is only of mode = \"plugin\": set the mode, or leave it out");
        }
        if !self.state_dir.is_absolute() && self.state_dir.as_os_str().is_empty() {
            document.error("agent.state_dir", "give a directory");
        }
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log) {
            document.error("agent.log", format!("{error}: give a level such as `info`"));
        }
        if let Err(error) = redact::Redactor::new(self.redact.clone()) {
            document.error("redact", error);
        }
        for error in self.sources.file.iter().filter_map(|file| file.read_as().err()) {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            document.error("sources.file", format!("{error}{cause}"));
        }
        if let Err(error) = self.select.validate() {
            document.error("select.advanced", error);
        }
        if self.identity.is_some() && self.uplink.collectors.is_empty() {
            document
                .error("uplink.collectors", "missing: with `[identity]` nobody joins, so say where ingest listens, `host:7443`");
        }
        for trouble in self.sources.cloudtrail.iter().filter_map(cloudtrail::Config::trouble) {
            document.error("sources.cloudtrail", trouble);
        }
        for trouble in self.sources.proxy.iter().filter_map(proxy::Config::trouble) {
            document.error("sources.proxy", trouble);
        }
        for (section, trouble) in [
            ("sources.api", self.sources.api.trouble()),
            ("sources.kubernetes", self.sources.kubernetes.trouble()),
            ("sources.otlp", self.sources.otlp.trouble()),
            ("sources.vault", self.sources.vault.trouble()),
            ("sources.syslog", self.sources.syslog.trouble()),
            ("sources.sudo", self.sources.sudo.trouble()),
        ] {
            if let Some(trouble) = trouble {
                document.error(section, trouble);
            }
        }
        for collector in &self.uplink.collectors {
            if let Err(error) = collector.parse::<edgetrail_link::uplink::Endpoint>() {
                document.error("uplink.collectors", format!("`{collector}`: {error}"));
            }
        }
    }
}
