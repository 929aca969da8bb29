//! Who a relay is, and what it knows of home: `relay.json` in its state directory, written whole or not at all.
//!
//! Joining makes a fresh TLS key, whose private half never leaves the host, and pins home's CA by its hash. The receipt key
//! stays as long as the file does: what it has signed, it alone can answer for.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use edgetrail_link::receipt_keys::{ReceiptKey, ReceiptKeyError, ReceiptKeys};
use edgetrail_link::tls::{self, CaPin, PeerError, PeerIdentity, TlsError};
use edgetrail_link::uplink::{self, ConnectError, Credentials, Endpoint};
use edgetrail_link::wire::enrollment_client::EnrollmentClient;
use edgetrail_link::{renewal, wire};
use edgetrail_proto::chain::{Hash, PublicKey, ReceiptSigner, Seed};
use edgetrail_proto::identity::{AgentId, RelayIdentity};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SigningKey};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::config::INGEST_PORT;
use crate::pki::FileError;
use crate::pki::files as secret_files;

const FILE: &str = "relay.json";

/// Most certificates, keys, endpoints or agents in an answer: beyond, it is not one.
const ANSWER_ITEMS_MAX: usize = 100_000;

/// What a join left behind, and what home has said since.
#[derive(Clone)]
pub struct RelayPapers {
    pub identity: RelayIdentity,
    /// Home's API, where it joined and renews.
    pub url: Endpoint,
    /// Home's ingest.
    pub home: Endpoint,
    pub partition: String,
    /// Under what names agents reach it.
    pub names: Vec<String>,
    /// What it shows home.
    pub tls: tls::Identity,
    /// What it shows agents, for the same key: leaf first, up to the root that a joining agent pins.
    pub server_chain: Vec<CertificateDer<'static>>,
    pub roots: Vec<CertificateDer<'static>>,
    /// Of every collector of the home; this relay's own among them.
    pub receipt_keys: ReceiptKeys,
    pub revoked: Vec<AgentId>,
    /// Agents whose state two parties held.
    pub forked: Vec<Forked>,
    /// SHA-256 of home's receipt key; `None` before home has told it.
    pub home_signs_as: Option<Hash>,
    seed: Seed,
}

/// A fork, as home knows it. Times are Unix nanoseconds by home's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forked {
    #[serde(with = "agent_text")]
    pub agent: AgentId,
    pub frozen_ns: u64,
    pub joined_ns: u64,
}

impl Forked {
    /// The agent has joined again since.
    pub fn is_over(&self) -> bool {
        self.joined_ns > self.frozen_ns
    }
}

/// The file's shape. DER and seeds are base64, numbers of 64 bits text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stored {
    identity: String,
    url: String,
    home: String,
    partition: String,
    names: Vec<String>,
    key: String,
    chain: Vec<String>,
    server_chain: Vec<String>,
    roots: Vec<String>,
    receipt_keys: Vec<StoredKey>,
    receipt_seed: String,
    revoked: Vec<String>,
    #[serde(default)]
    forked: Vec<Forked>,
    #[serde(default)]
    home_signs_as: Option<String>,
}

/// An agent's id as text.
mod agent_text {
    use edgetrail_proto::identity::AgentId;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(agent: &AgentId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(agent)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AgentId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| de::Error::custom("an agent's id is a UUID"))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredKey {
    public_key: String,
    not_before: u64,
    not_after: u64,
    ca_signature: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("no relay has joined here: run `edgetrail-collector relay join` with a token of home's first")]
    NotJoined,
    #[error("relay.json can't be read or written")]
    File(#[source] FileError),
    #[error("relay.json is damaged: restore it, or remove it and join again; a new receipt key is made then")]
    Damaged,
    #[error("TLS can't be set up")]
    Tls(#[source] TlsError),
    #[error("the key can't be made or used: {0}")]
    Key(rcgen::Error),
    #[error("no random bytes are to be had: {0}")]
    Random(getrandom::Error),
    #[error("home can't be reached; check the URL, the port and the CA pin")]
    Connect(#[source] ConnectError),
    #[error("home refused: {message}")]
    Refused { message: String },
    #[error("home's answer is not usable: {0}")]
    Answer(&'static str),
    #[error("the certificate that home gave can't be read")]
    Certificate(#[source] PeerError),
    #[error("a receipt key that home gave can't be trusted")]
    ReceiptKey(#[source] ReceiptKeyError),
}

/// What `relay join` is given.
#[derive(Debug)]
pub struct RelayJoin<'a> {
    pub dir: &'a Path,
    pub url: &'a Endpoint,
    pub token: &'a str,
    pub pin: CaPin,
    pub names: &'a [String],
}

impl std::fmt::Debug for RelayPapers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayPapers").field("identity", &self.identity).field("home", &self.home).finish_non_exhaustive()
    }
}

/// Joins, or joins again. The token is spent even if the answer is lost on the way.
pub async fn join(join: &RelayJoin<'_>) -> Result<RelayPapers, RelayError> {
    let seed = match RelayPapers::load(join.dir) {
        Ok(papers) => papers.seed,
        Err(RelayError::NotJoined) => fresh_seed()?,
        Err(error) => return Err(error),
    };
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(RelayError::Key)?;
    let pinned = tls::pinned_client_config(join.pin).map_err(RelayError::Tls)?;
    let request = wire::JoinRelayRequest {
        token: join.token.to_owned(),
        csr: request_for(&key)?.into(),
        receipt_public_key: signer(&seed).public_key().0.to_vec().into(),
        names: join.names.to_vec(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let answered = client(join.url, pinned).await?.join_relay(request).await;
    let answer = answered.map_err(|status| RelayError::Refused { message: status.message().to_owned() })?.into_inner();
    let credentials = answer.credentials.ok_or(RelayError::Answer("it has no credentials"))?;
    let (tls, roots, receipt_keys, identity) = check(&credentials, &key, &seed)?;
    if !roots.iter().any(|root| CaPin::of(root) == join.pin) {
        return Err(RelayError::Answer("the pinned CA is not among the roots"));
    }
    let home = match answer.ingest_endpoints.first() {
        None => Endpoint { host: join.url.host.clone(), port: INGEST_PORT },
        Some(endpoint) => match endpoint.strip_prefix(':') {
            Some(port) => {
                format!("{}:{port}", Endpoint { host: join.url.host.clone(), port: 1 }.to_string().trim_end_matches(":1")).parse()
            }
            None => endpoint.parse(),
        }
        .map_err(|_| RelayError::Answer("an endpoint is malformed"))?,
    };
    let papers = RelayPapers {
        identity,
        url: join.url.clone(),
        home,
        partition: answer.partition,
        names: join.names.to_vec(),
        tls,
        server_chain: server_chain(&answer.server_chain)?,
        roots,
        receipt_keys,
        revoked: Vec::new(),
        forked: Vec::new(),
        home_signs_as: None,
        seed,
    };
    papers.store(join.dir)?;
    Ok(papers)
}

impl RelayPapers {
    pub fn load(dir: &Path) -> Result<Self, RelayError> {
        let bytes = secret_files::read(&dir.join(FILE)).map_err(RelayError::File)?.ok_or(RelayError::NotJoined)?;
        Self::parse(&Zeroizing::new(bytes)).ok_or(RelayError::Damaged)
    }

    /// Writes the file; from here on a crash recovers to these.
    pub fn store(&self, dir: &Path) -> Result<(), RelayError> {
        let der = |certificates: &[CertificateDer<'_>]| certificates.iter().map(|der| BASE64.encode(der)).collect();
        let stored = Stored {
            identity: self.identity.to_string(),
            url: self.url.to_string(),
            home: self.home.to_string(),
            partition: self.partition.clone(),
            names: self.names.clone(),
            key: BASE64.encode(self.tls.key.secret_der()),
            chain: der(&self.tls.chain),
            server_chain: der(&self.server_chain),
            roots: der(&self.roots),
            receipt_keys: self
                .receipt_keys
                .iter()
                .map(|key| StoredKey {
                    public_key: BASE64.encode(key.public_key.0),
                    not_before: key.not_before,
                    not_after: key.not_after,
                    ca_signature: BASE64.encode(&key.ca_signature),
                })
                .collect(),
            receipt_seed: BASE64.encode(self.seed.0.as_slice()),
            revoked: self.revoked.iter().map(ToString::to_string).collect(),
            forked: self.forked.clone(),
            home_signs_as: self.home_signs_as.map(|key| key.to_hex()),
        };
        secret_files::create_directory(dir).map_err(RelayError::File)?;
        let bytes = Zeroizing::new(serde_json::to_vec(&stored).map_err(|_| RelayError::Damaged)?);
        secret_files::write(&dir.join(FILE), &bytes).map_err(RelayError::File)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let stored: Stored = serde_json::from_slice(bytes).ok()?;
        let der = |texts: &[String]| -> Option<Vec<CertificateDer<'static>>> {
            texts.iter().map(|text| BASE64.decode(text).ok().map(CertificateDer::from)).collect()
        };
        let roots = der(&stored.roots)?;
        let mut receipt_keys = ReceiptKeys::default();
        for key in stored.receipt_keys {
            let public_key = PublicKey(BASE64.decode(&key.public_key).ok()?.try_into().ok()?);
            let ca_signature = BASE64.decode(&key.ca_signature).ok()?;
            let StoredKey { not_before, not_after, .. } = key;
            receipt_keys.add(ReceiptKey { public_key, not_before, not_after, ca_signature }, &roots).ok()?;
        }
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(BASE64.decode(&stored.key).ok()?));
        let seed: [u8; 32] = BASE64.decode(&stored.receipt_seed).ok()?.try_into().ok()?;
        Some(Self {
            identity: stored.identity.parse().ok()?,
            url: stored.url.parse().ok()?,
            home: stored.home.parse().ok()?,
            partition: stored.partition,
            names: stored.names,
            tls: tls::Identity { chain: der(&stored.chain)?, key },
            server_chain: der(&stored.server_chain)?,
            roots,
            receipt_keys,
            revoked: stored.revoked.iter().map(|id| id.parse().ok()).collect::<Option<_>>()?,
            forked: stored.forked,
            home_signs_as: match stored.home_signs_as {
                Some(text) => Some(Hash::from_hex(&text)?),
                None => None,
            },
            seed: Seed(Zeroizing::new(seed)),
        })
    }

    /// What it shows agents.
    pub fn server(&self) -> tls::Identity {
        tls::Identity { chain: self.server_chain.clone(), key: self.tls.key.clone_key() }
    }

    /// Signs the relay's receipts.
    pub fn signer(&self) -> ReceiptSigner {
        signer(&self.seed)
    }

    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// Home's statement on the relay's own receipt key.
    pub fn statement(&self) -> Option<ReceiptKey> {
        let own = self.signer().public_key();
        self.receipt_keys.iter().find(|key| key.public_key == own).cloned()
    }

    /// What is shown to home and trusted of it.
    pub fn credentials(&self) -> Result<Credentials, RelayError> {
        let tls = tls::client_config(&self.roots, Some(self.tls.clone())).map_err(RelayError::Tls)?;
        let (chain, roots, receipt_keys) = (self.tls.chain.clone(), self.roots.clone(), self.receipt_keys.clone());
        Ok(Credentials { tls, chain, roots, receipt_keys })
    }

    /// How long until half of the certificate's life is over.
    pub fn renews_in(&self) -> Result<Duration, RelayError> {
        let leaf = self.tls.chain.first().ok_or(RelayError::Damaged)?;
        let (begin, end) = tls::validity_of(leaf).map_err(RelayError::Certificate)?;
        let half = UNIX_EPOCH + Duration::from_secs(u64::try_from(begin.midpoint(end)).unwrap_or(0));
        Ok(half.duration_since(SystemTime::now()).unwrap_or_default())
    }

    /// Whether agents that trust the roots of now believe what it shows them.
    pub fn is_led_to_by_a_root(&self) -> bool {
        self.server_chain.last().is_none_or(|root| self.roots.contains(root))
    }

    /// Asks home for the next certificate, by the key of this one.
    pub async fn renewed(&self) -> Result<Self, RelayError> {
        let leaf = self.tls.chain.first().ok_or(RelayError::Damaged)?;
        let key = KeyPair::try_from(self.tls.key.secret_der()).map_err(RelayError::Key)?;
        let csr = request_for(&key)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let receipt_public_key = self.signer().public_key().0.to_vec();
        let message = renewal::relay_message(&csr, leaf, time, &receipt_public_key, &self.names);
        let request = wire::RenewRelayRequest {
            csr: csr.into(),
            certificate: leaf.to_vec().into(),
            time,
            receipt_public_key: receipt_public_key.into(),
            names: self.names.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            signature: key.sign(&message).map_err(RelayError::Key)?.into(),
        };
        let answered = self.enrollment().await?.renew_relay(request).await;
        let answer = answered.map_err(|status| RelayError::Refused { message: status.message().to_owned() })?.into_inner();
        let credentials = answer.credentials.ok_or(RelayError::Answer("it has no credentials"))?;
        let (tls, roots, receipt_keys, identity) = check(&credentials, &key, &self.seed)?;
        if identity != self.identity {
            return Err(RelayError::Answer("the certificate is for another relay"));
        }
        let server_chain = server_chain(&answer.server_chain)?;
        Ok(Self { tls, server_chain, roots, receipt_keys, ..self.clone() })
    }

    /// Home's Enrollment service.
    pub async fn enrollment(&self) -> Result<EnrollmentClient<Channel>, RelayError> {
        client(&self.url, tls::client_config(&self.roots, None).map_err(RelayError::Tls)?).await
    }

    /// Takes up what home says now. Keys that no root vouches for are left out.
    pub fn told(&self, state: &wire::HomeState) -> Result<Self, RelayError> {
        let counts = [state.roots.len(), state.receipt_keys.len(), state.revoked_agents.len(), state.forked_agents.len()];
        if counts.iter().any(|count| *count > ANSWER_ITEMS_MAX) {
            return Err(RelayError::Answer("it is longer than any answer"));
        }
        let roots: Vec<_> = state.roots.iter().map(|der| CertificateDer::from(der.to_vec())).collect();
        let receipt_keys = keys_of(&state.receipt_keys, &roots);
        let revoked = state.revoked_agents.iter().map(|id| Some(AgentId::from_bytes(id.as_ref().try_into().ok()?)));
        let revoked = revoked.collect::<Option<_>>().ok_or(RelayError::Answer("an agent's id is 16 bytes long"))?;
        let forked = state.forked_agents.iter().map(|fork| {
            let agent = AgentId::from_bytes(fork.agent_id.as_ref().try_into().ok()?);
            Some(Forked { agent, frozen_ns: fork.frozen, joined_ns: fork.joined })
        });
        let forked = forked.collect::<Option<_>>().ok_or(RelayError::Answer("an agent's id is 16 bytes long"))?;
        // A home of before it told this says nothing.
        let home_signs_as = Hash::from_slice(&state.signs_as).or(self.home_signs_as);
        let told = Self { roots, receipt_keys, revoked, forked, home_signs_as, ..self.clone() };
        // What it lives by must be in it.
        tls::client_config(&told.roots, None).map_err(RelayError::Tls)?;
        told.statement().ok_or(RelayError::Answer("it lacks this relay's own receipt key"))?;
        Ok(told)
    }
}

/// That it is for the relay's key is found when TLS is set up with it.
fn server_chain(der: &[Bytes]) -> Result<Vec<CertificateDer<'static>>, RelayError> {
    if der.is_empty() || der.len() > tls::CHAIN_LENGTH_MAX {
        return Err(RelayError::Answer("it has no server's certificate"));
    }
    Ok(der.iter().map(|der| CertificateDer::from(der.to_vec())).collect())
}

type Checked = (tls::Identity, Vec<CertificateDer<'static>>, ReceiptKeys, RelayIdentity);

/// Credentials against the key they are for.
fn check(credentials: &wire::Credentials, key: &KeyPair, seed: &Seed) -> Result<Checked, RelayError> {
    let counts = [credentials.certificate_chain.len(), credentials.roots.len(), credentials.receipt_keys.len()];
    if counts.iter().any(|count| *count > ANSWER_ITEMS_MAX) {
        return Err(RelayError::Answer("it is longer than any answer"));
    }
    let owned = |der: &Bytes| CertificateDer::from(der.to_vec());
    let chain: Vec<_> = credentials.certificate_chain.iter().map(owned).collect();
    let roots: Vec<_> = credentials.roots.iter().map(owned).collect();
    let leaf = chain.first().ok_or(RelayError::Answer("it has no certificate"))?;
    let PeerIdentity::Relay(identity) = tls::peer_identity_of(leaf).map_err(RelayError::Certificate)? else {
        return Err(RelayError::Answer("the certificate is no relay's"));
    };
    if tls::public_key_of(leaf).map_err(RelayError::Certificate)? != rcgen::PublicKeyData::subject_public_key_info(key) {
        return Err(RelayError::Answer("the certificate is for another key"));
    }
    let receipt_keys = keys_of(&credentials.receipt_keys, &roots);
    if !receipt_keys.holds(&signer(seed).public_key()) {
        return Err(RelayError::Answer("it lacks this relay's own receipt key"));
    }
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok((tls::Identity { chain, key }, roots, receipt_keys, identity))
}

/// While the root is being replaced, each key comes with one statement a root.
fn keys_of(offered: &[wire::ReceiptKey], roots: &[CertificateDer<'static>]) -> ReceiptKeys {
    let mut keys = ReceiptKeys::default();
    for key in offered {
        let Ok(key) = ReceiptKey::from_wire(key) else { continue };
        if keys.holds(&key.public_key) {
            continue;
        }
        if let Err(error) = keys.add(key, roots) {
            tracing::warn!(%error, "a receipt key that home offers is not taken");
        }
    }
    keys
}

fn signer(seed: &Seed) -> ReceiptSigner {
    ReceiptSigner::from_seed(&seed.0)
}

fn fresh_seed() -> Result<Seed, RelayError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(RelayError::Random)?;
    Ok(Seed(seed))
}

/// A PKCS#10 request, DER. It names nothing: home says who the relay is.
fn request_for(key: &KeyPair) -> Result<Vec<u8>, RelayError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(RelayError::Key)?.der().to_vec())
}

async fn client(endpoint: &Endpoint, tls: std::sync::Arc<rustls::ClientConfig>) -> Result<EnrollmentClient<Channel>, RelayError> {
    Ok(EnrollmentClient::new(uplink::channel(endpoint, tls).await.map_err(RelayError::Connect)?))
}

/// SHA-256 of the relay's receipt key, as home names it.
pub fn receipt_key_id(papers: &RelayPapers) -> Hash {
    Hash::of(&papers.signer().public_key().0)
}
