//! Joining and renewing, over real TLS on loopback.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::renewal;
use edgetrail_link::tls::{self, CaPin, Incoming};
use edgetrail_link::uplink::{Endpoint, channel};
use edgetrail_link::wire::enrollment_client::EnrollmentClient;
use edgetrail_link::wire::{JoinRequest, JoinResponse, RenewRequest};
use edgetrail_proto::identity::AgentId;
use rcgen::{CertificateParams, KeyPair, SigningKey};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic::Code;

use crate::control::{Control, NewToken};
use crate::pki::{AGENT_CERTIFICATE_LIFE, EnrollmentOptions, EnrollmentService, Pki, RENEWAL_GRACE};

const ACCOUNT: &str = "111122223333";

struct Door {
    control: Control,
    pki: Pki,
    endpoint: Endpoint,
    _tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

impl Door {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::open(directory.path()).unwrap();
        let domain = crate::pki::TRUST_DOMAIN_DEFAULT.parse().unwrap();
        let pki = Pki::open(&directory.path().join("pki"), domain, &[], control.revoked()).unwrap();
        let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: vec!["c.example:7443".to_owned()] };
        let service = EnrollmentService::new(&pki, control.clone(), options).server();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let incoming = Incoming::new(listener, pki.api_tls());
        let mut tasks = JoinSet::new();
        let server = tonic::transport::Server::builder().add_service(service);
        tasks.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self { control, pki, endpoint, _tasks: tasks, _directory: directory }
    }

    fn token(&self, account: &str, uses: u32) -> String {
        let scopes = vec![(account.parse().unwrap(), "dc-local-1".parse().unwrap())];
        let new = NewToken { scopes, gateway: false, ttl: Duration::from_secs(60), uses };
        self.control.create_token(&new, now_ns()).unwrap().text
    }

    async fn join(&self, key: &KeyPair, number: u8, token: &str) -> Result<JoinResponse, Code> {
        self.join_pinned(self.pki.ca_pin(), join_request(key, number, token)).await
    }

    async fn join_pinned(&self, pin: CaPin, request: JoinRequest) -> Result<JoinResponse, Code> {
        let tls = tls::pinned_client_config(pin).unwrap();
        let channel = channel(&self.endpoint, tls).await.map_err(|_| Code::Unavailable)?;
        let answer = EnrollmentClient::new(channel).join(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.code())
    }

    async fn renew(&self, request: RenewRequest) -> Result<CertificateDer<'static>, Code> {
        let tls = tls::client_config(&self.pki.roots(), None).unwrap();
        let answer = EnrollmentClient::new(channel(&self.endpoint, tls).await.unwrap()).renew(request).await;
        let credentials = answer.map_err(|status| status.code())?.into_inner().credentials.unwrap();
        Ok(CertificateDer::from(credentials.certificate_chain[0].to_vec()))
    }

    /// A certificate of an agent that joined long ago, issued at this time.
    fn issued_at(&self, key: &KeyPair, number: u8, at: SystemTime) -> CertificateDer<'static> {
        let mut agent = self.control.agent(AgentId::from_bytes([number; 16])).unwrap().unwrap();
        agent.joined_ns = 1;
        self.control.upsert_agent(&agent).unwrap();
        let request = self.pki.authority().check_request(&csr(key)).unwrap();
        let identity = format!(
            "spiffe://edgetrail.internal/account/{ACCOUNT}/region/dc-local-1/agent/{}",
            AgentId::from_bytes([number; 16])
        );
        self.pki.authority().issue_agent(&request, &identity.parse().unwrap(), at).unwrap().remove(0)
    }
}

fn fresh_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn join_request(key: &KeyPair, number: u8, token: &str) -> JoinRequest {
    JoinRequest {
        token: token.to_owned(),
        csr: csr(key).into(),
        agent_id: vec![number; 16].into(),
        host: "host".to_owned(),
        version: "1".to_owned(),
    }
}

fn renew_request(key: &KeyPair, signer: &KeyPair, certificate: &CertificateDer<'_>) -> RenewRequest {
    let csr = csr(key);
    let signature = signer.sign(&renewal::message(&csr, certificate, 1)).unwrap();
    RenewRequest { csr: csr.into(), certificate: certificate.to_vec().into(), time: 1, signature: signature.into() }
}

fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gives_the_identity_that_it_names_as_often_as_it_says() {
    let door = Door::open().await;
    let (key, token) = (fresh_key(), door.token(ACCOUNT, 2));
    let joined = door.join(&key, 1, &token).await.unwrap();
    assert_eq!(
        (joined.partition.as_str(), joined.ingest_endpoints.as_slice()),
        ("aws", ["c.example:7443".to_owned()].as_slice())
    );
    let leaf = CertificateDer::from(joined.credentials.unwrap().certificate_chain[0].to_vec());
    let identity = tls::identity_of(&leaf).unwrap();
    assert_eq!(
        identity.to_string(),
        format!("spiffe://edgetrail.internal/account/{ACCOUNT}/region/dc-local-1/agent/{}", identity.agent)
    );
    door.join(&key, 2, &token).await.unwrap();
    assert_eq!(door.join(&key, 3, &token).await.unwrap_err(), Code::PermissionDenied, "used up");
    assert_eq!(door.join(&key, 3, "etj-0000-aaaa").await.unwrap_err(), Code::PermissionDenied, "unknown");
    assert_eq!(door.control.agents().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_join_spends_no_use_of_the_token() {
    let door = Door::open().await;
    let (key, token) = (fresh_key(), door.token(ACCOUNT, 1));
    let good = join_request(&key, 1, &token);
    let mut changes: Vec<JoinRequest> = vec![good.clone(); 6];
    changes[0].agent_id = vec![1; 15].into();
    changes[1].agent_id = vec![0; 16].into();
    changes[2].host = "a\nb".to_owned();
    changes[3].host = String::new();
    changes[4].csr = good.csr.slice(..good.csr.len() - 1);
    changes[5].csr = CertificateParams::default()
        .serialize_request(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())
        .unwrap()
        .der()
        .to_vec()
        .into();
    for changed in changes {
        assert_eq!(door.join_pinned(door.pki.ca_pin(), changed).await.unwrap_err(), Code::InvalidArgument);
    }
    assert!(door.join_pinned(door.pki.ca_pin(), good).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_pin_or_another_host_name_is_no_connection() {
    let door = Door::open().await;
    let request = join_request(&fresh_key(), 1, &door.token(ACCOUNT, 1));
    let other: CaPin = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
    assert_eq!(door.join_pinned(other, request.clone()).await.unwrap_err(), Code::Unavailable);
    // The leaf's own hash is no CA's: pinning it must not make a root of it.
    let leaf = door.pki.authority().issue_server(&[], SystemTime::now()).unwrap().chain.remove(0);
    assert_eq!(door.join_pinned(CaPin::of(&leaf), request.clone()).await.unwrap_err(), Code::Unavailable);
    let pinned = tls::pinned_client_config(door.pki.ca_pin()).unwrap();
    let elsewhere = Endpoint { host: "127.0.0.2".to_owned(), port: door.endpoint.port };
    assert!(channel(&elsewhere, pinned).await.is_err(), "the certificate does not name 127.0.0.2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_takes_over_no_agent_of_another_account() {
    let door = Door::open().await;
    door.join(&fresh_key(), 1, &door.token(ACCOUNT, 1)).await.unwrap();
    let foreign = door.token("999999999999", 2);
    assert_eq!(door.join(&fresh_key(), 1, &foreign).await.unwrap_err(), Code::PermissionDenied);
    door.join(&fresh_key(), 1, &door.token(ACCOUNT, 1)).await.expect("the same account may join again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_by_its_own_key_until_the_grace_is_over() {
    let door = Door::open().await;
    let (key, thief, now) = (fresh_key(), fresh_key(), SystemTime::now());
    door.join(&key, 1, &door.token(ACCOUNT, 1)).await.unwrap();
    let old = door.issued_at(&key, 1, now - Duration::from_secs(12 * 3600));
    let renewed = door.renew(renew_request(&key, &key, &old)).await.unwrap();
    assert_eq!(tls::public_key_of(&renewed).unwrap(), tls::public_key_of(&old).unwrap());
    assert!(tls::validity_of(&renewed).unwrap() > tls::validity_of(&old).unwrap());

    assert_eq!(door.renew(renew_request(&key, &thief, &old)).await, Err(Code::PermissionDenied), "another key signs");
    assert_eq!(door.renew(renew_request(&thief, &key, &old)).await, Err(Code::PermissionDenied), "another key asks");
    let expired = door.issued_at(&key, 1, now - AGENT_CERTIFICATE_LIFE - RENEWAL_GRACE / 2);
    assert!(door.renew(renew_request(&key, &key, &expired)).await.is_ok(), "within the grace");
    let ancient = door.issued_at(&key, 1, now - AGENT_CERTIFICATE_LIFE - RENEWAL_GRACE - Duration::from_secs(3600));
    assert_eq!(door.renew(renew_request(&key, &key, &ancient)).await, Err(Code::PermissionDenied), "after the grace");
    let server = door.pki.authority().issue_server(&[], now).unwrap().chain.remove(0);
    assert_eq!(door.renew(renew_request(&key, &key, &server)).await, Err(Code::PermissionDenied), "no agent's");

    door.control.revoke_agent(AgentId::from_bytes([1; 16]), 1).unwrap();
    assert_eq!(door.renew(renew_request(&key, &key, &renewed)).await, Err(Code::PermissionDenied), "revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_before_the_last_join_renews_nothing() {
    let door = Door::open().await;
    let (clone, rightful) = (fresh_key(), fresh_key());
    door.join(&clone, 1, &door.token(ACCOUNT, 1)).await.unwrap();
    let old = door.issued_at(&clone, 1, SystemTime::now() - Duration::from_secs(60));
    door.join(&rightful, 1, &door.token(ACCOUNT, 1)).await.unwrap();
    assert_eq!(door.renew(renew_request(&clone, &clone, &old)).await, Err(Code::PermissionDenied));
}
