//! `[pki]`: certificates and foreign roots.

use std::path::PathBuf;
use std::time::Duration;

use edgetrail_proto::identity::{AccountId, AgentId, Region};
use edgetrail_settings::{Document, Parsed, Span};
use serde::Deserialize;

use super::PkiConfig;
use crate::pki::{AGENT_CERTIFICATE_LIFE, ForeignOptions, MappedAgent, ServerFiles};

/// A certificate lives at least an hour: an agent renews at half of that, and a host may sleep. Shorter ones need
/// `accelerated`.
const LIFE_MIN: Duration = Duration::from_secs(3600);
const LIFE_ACCELERATED_MIN: Duration = Duration::from_secs(4);

/// A certificate lives at most a week: revocation must not have to wait for longer where a collector was restored.
const LIFE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// `[pki]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Shape {
    certificate_life: Span,
    accelerated: bool,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    agent_roots: Vec<PathBuf>,
    agents: Vec<Row>,
}

/// `[[pki.agents]]` as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    account: Parsed<AccountId>,
    region: Parsed<Region>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            certificate_life: Span(AGENT_CERTIFICATE_LIFE),
            accelerated: false,
            certificate: None,
            key: None,
            agent_roots: Vec::new(),
            agents: Vec::new(),
        }
    }
}

pub(super) fn settings(document: &mut Document, warnings: &mut Vec<String>) -> PkiConfig {
    let shape: Shape = document.section("pki");
    let certificate_life = shape.certificate_life.0;
    let least = if shape.accelerated { LIFE_ACCELERATED_MIN } else { LIFE_MIN };
    if !(least..=LIFE_MAX).contains(&certificate_life) {
        document.error("pki.certificate_life", "give 1h to 7d; seconds, for tests only, with `accelerated = true`");
    }
    if shape.accelerated {
        warnings.push("pki.accelerated is for tests: agents renew every few seconds".to_owned());
    }
    let server = match (shape.certificate, shape.key) {
        (Some(certificate), Some(key)) => Some(ServerFiles { certificate, key }),
        (None, None) => None,
        (Some(_), None) => {
            document.error("pki.key", "missing: give the key of `pki.certificate`");
            None
        }
        (None, Some(_)) => {
            document.error("pki.certificate", "missing: give the certificate chain of `pki.key`, up to and with its root");
            None
        }
    };
    if shape.agent_roots.is_empty() && !shape.agents.is_empty() {
        document.error("pki.agent_roots", "missing: give the roots of the certificates that `[[pki.agents]]` names");
    }
    let mut agents: Vec<MappedAgent> = Vec::new();
    for Row { name, account, region } in shape.agents {
        if !name.starts_with("spiffe://") && !name.starts_with("dns:") {
            document
                .error("pki.agents", format!("`{name}` is no name: give `spiffe://…` or `dns:NAME`, as the certificate has it"));
        }
        let agent = AgentId::of_name(&name);
        if agents.iter().any(|mapped| mapped.name == name) {
            document.error("pki.agents", format!("`{name}` is listed twice"));
        }
        agents.push(MappedAgent { name, account: account.0, region: region.0, agent });
    }
    PkiConfig { certificate_life, server, foreign: ForeignOptions { roots: shape.agent_roots, agents } }
}
