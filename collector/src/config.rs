//! The configuration: what is written becomes the validated [`Config`]; nothing else is used after.
//!
//! `collector.toml`, then its drop-ins `collector.d/*.toml` in order of name, then `EDGETRAIL_SECTION__KEY` variables.
//! Sections of the agent are not looked into: both may share one file or environment. Every default is a constant
//! here; docs/collector.toml shows them all and is parsed by a test.

mod limits;
mod pki;
mod relay;
mod shape;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edgetrail_cloudtrail::{BucketName, Prefix, TrailName};
use edgetrail_proto::identity::{AccountId, Region, TrustDomain};
use edgetrail_settings::{Document, Layer, LayerError, Parsed, layers, variables};

pub use self::relay::{HomeUrl, HomeUrlError, RelayConfig};
use crate::ingest::IngestLimits;
use crate::pki::{ForeignOptions, ServerFiles, TRUST_DOMAIN_DEFAULT};
use crate::sinks::SinkConfig;

/// Where `serve` looks when no file is named.
pub const CONFIG_FILE: &str = "/etc/edgetrail/collector.toml";

/// Where the state lies. Source: systemd's StateDirectory= of the shipped unit.
const STATE_DIR: &str = "/var/lib/edgetrail-collector";

/// Ports, where none is given.
pub const INGEST_PORT: u16 = 7443;
pub const API_PORT: u16 = 8443;

/// ARN partition: clients validate it.
const PARTITION: &str = "aws";

const BUCKET: &str = "edgetrail";
pub const DEFAULT_TRAIL: &str = "default";

/// Log files are closed after this long or at this size, uncompressed. Source: CloudTrail's cadence.
const LOG_INTERVAL: Duration = Duration::from_secs(5 * 60);
const LOG_BYTES: u64 = 15 * 1024 * 1024;

/// Digests are made this often. Source: CloudTrail's cadence.
const DIGEST_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Shortest digest window: a shorter one makes more objects than events, and needs `accelerated`.
const DIGEST_INTERVAL_MIN: Duration = Duration::from_secs(60);
const DIGEST_INTERVAL_ACCELERATED_MIN: Duration = Duration::from_secs(1);

/// Bodies stay in the ledger at least this long after every consumer has passed them.
const LEDGER_RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Events can be looked up for this long. Source: CloudTrail's event history, 90 days.
const HISTORY_RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);

/// Sections of the agent's configuration: both may share one file or environment.
const OTHERS_SECTIONS: [&str; 7] = ["agent", "identity", "sources", "select", "redact", "buffer", "uplink"];

/// What a collector runs by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub state_dir: PathBuf,
    pub home: HomeConfig,
    pub ingest: ListenerConfig,
    pub api: ListenerConfig,
    pub pki: PkiConfig,
    pub limits: IngestLimits,
    /// Where this collector is a relay, and not a home.
    pub relay: Option<RelayConfig>,
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

/// Certificates: how long agents' live, and what comes from a PKI of the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PkiConfig {
    pub certificate_life: Duration,
    pub server: Option<ServerFiles>,
    pub foreign: ForeignOptions,
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
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("the configuration has {} error(s):\n{}", .0.len(), .0.join("\n"))]
    Keys(Vec<String>),
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
        let collector: shape::Collector = document.section("collector");
        let ingest = listener(&mut document, "ingest", INGEST_PORT);
        let api = listener(&mut document, "api", API_PORT);
        let ledger_retention = retention(&mut document, "ledger", LEDGER_RETENTION);
        let history_retention = retention(&mut document, "history", HISTORY_RETENTION);
        let mut warnings = Vec::new();
        let trail = trail_settings(&mut document, &collector.state_dir, &mut warnings);
        let limits = limits::settings(&mut document);
        let pki = pki::settings(&mut document, &mut warnings);
        let relay = relay::settings(&mut document);
        let account = required(&mut document, "collector.account", collector.account, "the home account, 12 digits");
        let region = required(&mut document, "collector.region", collector.region, "the home region, such as \"dc-tokyo-1\"");
        let trust_domain = collector.trust_domain.map(|domain| domain.0).or_else(|| TRUST_DOMAIN_DEFAULT.parse().ok());

        let errors = document.into_errors();
        let (Some(account), Some(region), Some(trust_domain), true) = (account, region, trust_domain, errors.is_empty()) else {
            return Err(ConfigError::Keys(errors));
        };
        if !region.looks_like_aws() {
            warnings
                .push(format!("collector.region `{region}` works, but Terraform and others accept only names like `dc-tokyo-1`"));
        }
        if ingest.names.is_empty() && ingest.listen.port() != INGEST_PORT {
            let port = ingest.listen.port();
            warnings.push(format!("ingest.names is empty: agents connect to port {port} of the host that they joined"));
        }
        let host = collector.host.unwrap_or_else(host_name);
        let home = HomeConfig { account, region, partition: collector.partition, trust_domain, host };
        let state_dir = collector.state_dir;
        Ok(Self { relay, state_dir, home, ingest, api, pki, limits, trail, ledger_retention, history_retention, warnings })
    }

    /// Of the trail that the configuration describes.
    pub fn trail_arn(&self) -> String {
        let HomeConfig { account, region, partition, .. } = &self.home;
        format!("arn:{partition}:cloudtrail:{region}:{account}:trail/{}", self.trail.name)
    }
}

/// A key without a default; one that was given wrongly is noted already.
fn required<T>(document: &mut Document, key: &str, value: Option<Parsed<T>>, what: &str) -> Option<T> {
    if value.is_none() && !document.gives(key) {
        document.error(key, format!("missing: give {what}"));
    }
    value.map(|value| value.0)
}

fn listener(document: &mut Document, name: &'static str, port: u16) -> ListenerConfig {
    let shape: shape::Listener = document.section(name);
    ListenerConfig { listen: shape.address(port), names: shape.names }
}

fn retention(document: &mut Document, name: &'static str, default: Duration) -> Duration {
    document.section::<shape::Kept>(name).retention.map_or(default, |span| span.0)
}

fn trail_settings(document: &mut Document, state_dir: &Path, warnings: &mut Vec<String>) -> TrailSettings {
    let shape: shape::Trail = document.section("trail");
    let (log_interval, digest_interval) = (shape.log_interval.0, shape.digest_interval.0);
    let least = if shape.accelerated { DIGEST_INTERVAL_ACCELERATED_MIN } else { DIGEST_INTERVAL_MIN };
    if digest_interval < least || digest_interval.subsec_nanos() != 0 {
        document.error("trail.digest_interval", "give whole seconds, 60 s or more; shorter only with `accelerated = true`");
    }
    if log_interval < Duration::from_secs(1) {
        document.error("trail.log_interval", "give 1 s or more");
    }
    if let Err(refusal) = TrailName::parse(&shape.name) {
        document.error("trail.name", &refusal.message);
    }
    if let Err(refusal) = BucketName::parse(&shape.bucket) {
        document.error("trail.bucket", &refusal.message);
    }
    if let Some(Err(refusal)) = shape.prefix.as_deref().map(Prefix::parse) {
        document.error("trail.prefix", &refusal.message);
    }
    if shape.log_bytes.0 == 0 {
        document.error("trail.log_bytes", "give 1 or more");
    }
    if shape.accelerated {
        warnings.push("trail.accelerated is for trying out and tests: digests come in seconds and are many".to_owned());
    }
    TrailSettings {
        name: shape.name,
        bucket: shape.bucket,
        prefix: shape.prefix.filter(|prefix| !prefix.is_empty()),
        kms_key: shape.kms_key,
        log_interval,
        log_bytes: shape.log_bytes.0,
        digest_interval,
        sink: shape.sink.unwrap_or_else(|| SinkConfig::Directory { path: state_dir.join("trail") }),
    }
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
