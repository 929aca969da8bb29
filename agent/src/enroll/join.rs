//! Joining: a token and a CA pin become an identity.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeys};
use edgetrail_link::tls::{self, CaPin};
use edgetrail_link::uplink::{self, Endpoint};
use edgetrail_link::wire;
use edgetrail_link::wire::enrollment_client::EnrollmentClient;
use edgetrail_proto::identity::AgentId;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};
use rustls::ClientConfig;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::identity::StoredReceiptKey;
use super::{CERTIFICATE_FILE, EnrollError, IDENTITY_FILE, Identity, KEY_FILE, RECEIPT_KEYS_FILE, ROOTS_FILE, Scope, files};

/// Where a collector's API listens if the URL does not say.
const API_PORT: u16 = 8443;

/// Where its ingest listens, on the same host, if its answer does not say.
const INGEST_PORT: u16 = 7443;

/// Most certificates, receipt keys, scopes or endpoints in an answer: beyond, it is not one.
const ANSWER_ITEMS_MAX: usize = 4096;

/// What `join` is given.
#[derive(Debug)]
pub struct Join<'a> {
    pub directory: &'a Path,
    pub url: &'a JoinUrl,
    pub token: &'a str,
    pub pin: CaPin,
    /// This host's name, as the streams' binding will say it.
    pub host: &'a str,
}

/// `https://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinUrl(pub Endpoint);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a collector's URL: give `https://host:8443`, as `token create` prints it")]
pub struct JoinUrlError(String);

/// Joins, or joins again under the same agent id. The token is spent even if the answer is lost on the way.
pub async fn join(join: &Join<'_>) -> Result<Identity, EnrollError> {
    files::create_directory(join.directory)?;
    let agent_id = known_agent_id(join.directory)?.unwrap_or_else(|| AgentId::from_bytes(*uuid::Uuid::now_v7().as_bytes()));
    // A fresh key at every join: whoever has a copy of the former one is left behind with it.
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(EnrollError::Key)?;
    let pinned = tls::pinned_client_config(join.pin).map_err(EnrollError::Tls)?;
    let request = wire::JoinRequest {
        token: join.token.to_owned(),
        csr: request_for(&key)?.into(),
        agent_id: agent_id.as_bytes().to_vec().into(),
        host: join.host.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answered = client(&join.url.0, pinned).await?.join(request).await;
    let answer = answered.map_err(|status| EnrollError::Refused { message: status.message().to_owned() })?.into_inner();

    let credentials = answer.credentials.ok_or(EnrollError::Answer("it has no credentials"))?;
    let received = Received::check(&credentials, &key, agent_id)?;
    if !received.roots.iter().any(|root| CaPin::of(root) == join.pin) {
        return Err(EnrollError::Answer("the pinned CA is not among the roots"));
    }
    if answer.scopes.len() > ANSWER_ITEMS_MAX || answer.ingest_endpoints.len() > ANSWER_ITEMS_MAX {
        return Err(EnrollError::Answer("it is longer than any answer"));
    }
    let scopes: Vec<Scope> = answer
        .scopes
        .iter()
        .map(|scope| Some(Scope { account: scope.account.parse().ok()?, region: scope.region.parse().ok()? }))
        .collect::<Option<_>>()
        .ok_or(EnrollError::Answer("an account or region is malformed"))?;
    let first = scopes.first().cloned().ok_or(EnrollError::Answer("it names no account and region"))?;
    let mut endpoints = Vec::with_capacity(answer.ingest_endpoints.len());
    for endpoint in &answer.ingest_endpoints {
        let here = endpoint.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|&port| port != 0);
        if let Some(port) = here {
            endpoints.push(Endpoint { host: join.url.0.host.clone(), port }.to_string());
            continue;
        }
        endpoints.push(endpoint.parse::<Endpoint>().map_err(|_| EnrollError::Answer("an endpoint is malformed"))?.to_string());
    }
    if endpoints.is_empty() {
        endpoints.push(Endpoint { host: join.url.0.host.clone(), port: INGEST_PORT }.to_string());
    }
    let identity = Identity {
        agent_id,
        account: first.account,
        region: first.region,
        host: join.host.to_owned(),
        partition: answer.partition,
        endpoints,
        scopes,
        gateway: answer.gateway,
        url: join.url.to_string(),
    };
    let mut swapped = received.files()?;
    // The key's PEM is erased from memory when it goes out of scope; the file is the owner's alone.
    let pem = Zeroizing::new(key.serialize_pem());
    swapped.push((KEY_FILE, pem.as_bytes().to_vec()));
    let text = serde_json::to_vec_pretty(&identity).map_err(|_| EnrollError::Answer("the identity can't be written"))?;
    swapped.push((IDENTITY_FILE, text));
    files::swap(join.directory, &swapped)?;
    Ok(identity)
}

/// Credentials that were checked against the key they are for.
pub(super) struct Received {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) receipt_keys: ReceiptKeys,
}

impl Received {
    pub(super) fn check(credentials: &wire::Credentials, key: &KeyPair, agent: AgentId) -> Result<Self, EnrollError> {
        let counts = [credentials.certificate_chain.len(), credentials.roots.len(), credentials.receipt_keys.len()];
        if counts.iter().any(|count| *count > ANSWER_ITEMS_MAX) {
            return Err(EnrollError::Answer("it is longer than any answer"));
        }
        let owned = |der: &bytes::Bytes| CertificateDer::from(der.to_vec());
        let chain: Vec<_> = credentials.certificate_chain.iter().map(owned).collect();
        let roots: Vec<_> = credentials.roots.iter().map(owned).collect();
        let leaf = chain.first().ok_or(EnrollError::Answer("it has no certificate"))?;
        let holder = tls::identity_of(leaf).map_err(EnrollError::Certificate)?;
        let public_key = tls::public_key_of(leaf).map_err(EnrollError::Certificate)?;
        if holder.agent != agent || public_key != key.subject_public_key_info() {
            return Err(EnrollError::Answer("the certificate is for another agent or key"));
        }
        let mut receipt_keys = ReceiptKeys::default();
        for receipt_key in &credentials.receipt_keys {
            let receipt_key = ReceiptKey::from_wire(receipt_key).map_err(EnrollError::ReceiptKey)?;
            receipt_keys.add(receipt_key, &roots).map_err(EnrollError::ReceiptKey)?;
        }
        Ok(Self { chain, roots, receipt_keys })
    }

    pub(super) fn receipt_keys_file(keys: &ReceiptKeys) -> Result<Vec<u8>, EnrollError> {
        let keys: Vec<StoredReceiptKey> = keys.iter().map(StoredReceiptKey::from).collect();
        serde_json::to_vec_pretty(&keys).map_err(|_| EnrollError::Answer("its receipt keys can't be written"))
    }

    pub(super) fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>, EnrollError> {
        let keys = Self::receipt_keys_file(&self.receipt_keys)?;
        let files = vec![(CERTIFICATE_FILE, pem(&self.chain)), (ROOTS_FILE, pem(&self.roots)), (RECEIPT_KEYS_FILE, keys)];
        Ok(files)
    }
}

/// A PKCS#10 request, DER. It names nothing: the collector says who the agent is.
pub(super) fn request_for(key: &KeyPair) -> Result<Vec<u8>, EnrollError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(EnrollError::Key)?.der().to_vec())
}

pub(super) async fn client(endpoint: &Endpoint, tls: Arc<ClientConfig>) -> Result<EnrollmentClient<Channel>, EnrollError> {
    Ok(EnrollmentClient::new(uplink::channel(endpoint, tls).await.map_err(EnrollError::Connect)?))
}

fn known_agent_id(directory: &Path) -> Result<Option<AgentId>, EnrollError> {
    files::finish_interrupted(directory)?;
    let path = directory.join(IDENTITY_FILE);
    let Some(bytes) = files::read(&path)? else { return Ok(None) };
    let identity: Identity = serde_json::from_slice(&bytes).map_err(|_| EnrollError::Malformed { path })?;
    Ok(Some(identity.agent_id))
}

pub(super) fn pem(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    use base64::Engine as _;
    let mut text = String::new();
    for certificate in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        // RFC 7468 §2: lines of 64 characters.
        for (index, character) in encoded.chars().enumerate() {
            if index > 0 && index % 64 == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

impl FromStr for JoinUrl {
    type Err = JoinUrlError;

    fn from_str(text: &str) -> Result<Self, JoinUrlError> {
        let malformed = || JoinUrlError(text.to_owned());
        let authority = text.strip_prefix("https://").ok_or_else(malformed)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let endpoint = authority.parse().or_else(|_| format!("{authority}:{API_PORT}").parse());
        endpoint.map(Self).map_err(|_| malformed())
    }
}

impl fmt::Display for JoinUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_url_is_https_host_and_maybe_port() {
        for (text, shown) in [
            ("https://c.example", "https://c.example:8443"),
            ("https://c.example:9443/", "https://c.example:9443"),
            ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
            ("https://[::1]", "https://[::1]:8443"),
        ] {
            assert_eq!(text.parse::<JoinUrl>().unwrap().to_string(), shown);
        }
        for text in ["http://c.example", "c.example:8443", "https://", "https://c.example/path", "https://c.example:x"] {
            assert!(text.parse::<JoinUrl>().is_err(), "{text}");
        }
    }
}
