//! The configuration: the file's shape is read key by key into the validated [`Config`]; nothing else is used after.
//!
//! Every error is found at once and names its key; an unknown key names the nearest known one.
//! `EDGETRAIL_SECTION__KEY` overrides the file. Every default is a constant here; docs/collector.toml shows them all
//! and is parsed by a test.

mod document;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgetrail_proto::identity::{AccountId, Region, TrustDomain};

use crate::pki::TRUST_DOMAIN_DEFAULT;
use crate::sinks::SinkConfig;
pub(crate) use document::duration;
use document::{Document, Section};

/// Where `serve` looks when no file is named.
pub const CONFIG_FILE: &str = "/etc/edgetrail/collector.toml";

/// Where the state lies. Source: systemd's StateDirectory= of the shipped unit.
const STATE_DIR: &str = "/var/lib/edgetrail-collector";

/// Ports. Source: DESIGN §7.
pub const INGEST_PORT: u16 = 7443;
pub const API_PORT: u16 = 8443;

/// ARN partition: clients validate it.
const PARTITION: &str = "aws";

const BUCKET: &str = "edgetrail";
pub const DEFAULT_TRAIL: &str = "default";

/// Log files are closed after this long or at this size, uncompressed. Source: CloudTrail's cadence; DESIGN §7.
const LOG_INTERVAL: Duration = Duration::from_secs(5 * 60);
const LOG_BYTES: u64 = 15 * 1024 * 1024;

/// Digests are made this often. Source: CloudTrail's cadence; DESIGN §7.
const DIGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Shortest digest window: a shorter one makes more objects than events, and needs `accelerated`.
const DIGEST_INTERVAL_MIN: Duration = Duration::from_secs(60);
const DIGEST_INTERVAL_ACCELERATED_MIN: Duration = Duration::from_secs(1);

/// Bodies stay in the ledger at least this long after every consumer has passed them.
const LEDGER_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Events can be looked up for this long. Source: CloudTrail's event history, 90 days.
const HISTORY_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

/// Sections of the agent's configuration: both may share one file or environment.
const OTHERS_SECTIONS: [&str; 6] = ["agent", "sources", "select", "redact", "buffer", "uplink"];

/// What a collector runs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub state_dir: PathBuf,
    pub home: HomeConfig,
    pub ingest: ListenerConfig,
    pub api: ListenerConfig,
    pub trail: TrailSettings,
    pub ledger_retention: Duration,
    pub history_retention: Duration,
    /// What works but deserves a word, for the log and `check`.
    pub warnings: Vec<String>,
}

/// Whose collector it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeConfig {
    pub account: AccountId,
    pub region: Region,
    pub partition: String,
    pub trust_domain: TrustDomain,
    /// The collector's own host name, in the binding of its internal stream.
    pub host: String,
}

/// One listening port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    pub listen: SocketAddr,
    /// Under what names and addresses others reach it; the first one stands in join commands.
    pub names: Vec<String>,
}

/// The default trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailSettings {
    pub name: String,
    pub bucket: String,
    pub prefix: Option<String>,
    pub kms_key: Option<String>,
    pub log_interval: Duration,
    pub log_bytes: u64,
    pub digest_interval: Duration,
    pub sink: SinkConfig,
}

/// All that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{} can't be read: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{} is no TOML: {message}", path.display())]
    Toml { path: PathBuf, message: String },
    #[error("the configuration has {} error(s):\n{}", .0.len(), .0.join("\n"))]
    Keys(Vec<String>),
}

impl Config {
    /// Reads a file and the environment. A missing file is an error only where it was named.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(CONFIG_FILE));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.is_none() => String::new(),
            Err(source) => return Err(ConfigError::File { path: file.to_owned(), source }),
        };
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::parse(file, &text, environment)
    }

    /// `environment`: names and values; what is not of the form `EDGETRAIL_SECTION__KEY` is ignored.
    pub fn parse(path: &Path, text: &str, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut document = Document::parse(text, &OTHERS_SECTIONS)
            .map_err(|error| ConfigError::Toml { path: path.to_owned(), message: error.to_string() })?;
        document.override_from(environment);

        let mut collector = document.section("collector");
        let state_dir = collector.path("state_dir").unwrap_or_else(|| PathBuf::from(STATE_DIR));
        let account: Option<AccountId> = collector.required("account", "the home account, 12 digits");
        let region: Option<Region> = collector.required("region", "the home region, such as \"dc-tokyo-1\"");
        let partition = collector.parsed("partition").unwrap_or_else(|| PARTITION.to_owned());
        let trust_domain = collector.parsed("trust_domain");
        let host = collector.parsed("host").unwrap_or_else(host_name);
        document.finish(collector);

        let ingest = listener(&mut document, "ingest", INGEST_PORT);
        let api = listener(&mut document, "api", API_PORT);

        let mut ledger = document.section("ledger");
        let ledger_retention = ledger.duration("retention").unwrap_or(LEDGER_RETENTION);
        document.finish(ledger);
        let mut history = document.section("history");
        let history_retention = history.duration("retention").unwrap_or(HISTORY_RETENTION);
        document.finish(history);

        let mut warnings = Vec::new();
        let mut trail = document.section("trail");
        let settings = trail_settings(&mut trail, &state_dir, &mut warnings);
        document.finish(trail);

        let mut errors = document.into_errors();
        let trust_domain = trust_domain.or_else(|| TRUST_DOMAIN_DEFAULT.parse::<TrustDomain>().ok());
        let (Some(account), Some(region), Some(trust_domain), true) = (account, region, trust_domain, errors.is_empty()) else {
            errors.sort();
            return Err(ConfigError::Keys(errors));
        };
        if !region.looks_like_aws() {
            warnings
                .push(format!("collector.region `{region}` works, but Terraform and others accept only names like `dc-tokyo-1`"));
        }
        let home = HomeConfig { account, region, partition, trust_domain, host };
        Ok(Self { state_dir, home, ingest, api, trail: settings, ledger_retention, history_retention, warnings })
    }
}

fn listener(document: &mut Document, name: &'static str, port: u16) -> ListenerConfig {
    let mut section = document.section(name);
    let listen = section.parsed("listen").unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
    let names = section.strings("names").unwrap_or_default();
    document.finish(section);
    ListenerConfig { listen, names }
}

fn trail_settings(section: &mut Section, state_dir: &Path, warnings: &mut Vec<String>) -> TrailSettings {
    let name = section.parsed("name").unwrap_or_else(|| DEFAULT_TRAIL.to_owned());
    let bucket = section.parsed("bucket").unwrap_or_else(|| BUCKET.to_owned());
    let prefix = section.parsed("prefix");
    let kms_key = section.parsed("kms_key");
    let log_interval = section.duration("log_interval").unwrap_or(LOG_INTERVAL);
    let log_bytes = section.integer("log_bytes").unwrap_or(LOG_BYTES);
    let digest_interval = section.duration("digest_interval").unwrap_or(DIGEST_INTERVAL);
    let accelerated = section.boolean("accelerated").unwrap_or(false);
    let sink = section.shape("sink").unwrap_or_else(|| SinkConfig::Directory { path: state_dir.join("trail") });

    let least = if accelerated { DIGEST_INTERVAL_ACCELERATED_MIN } else { DIGEST_INTERVAL_MIN };
    if digest_interval < least || digest_interval.subsec_nanos() != 0 {
        section.error("digest_interval", "give whole seconds, 60 s or more; shorter only with `accelerated = true`");
    }
    if log_interval < Duration::from_secs(1) {
        section.error("log_interval", "give 1 s or more");
    }
    if log_bytes == 0 {
        section.error("log_bytes", "give 1 or more");
    }
    if accelerated {
        warnings.push("trail.accelerated is for trying out and tests: digests come in seconds and are many".to_owned());
    }
    TrailSettings { name, bucket, prefix, kms_key, log_interval, log_bytes, digest_interval, sink }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
