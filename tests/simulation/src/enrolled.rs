//! Hosts that have joined a collector in this process, and the records that they commit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use edgetrail_agent::enroll::{CERTIFICATE_FILE, KEY_FILE};
use edgetrail_collector::control::{Control, NewRelayToken, NewToken};
use edgetrail_collector::pki::{EnrollmentOptions, EnrollmentService, Pki};
use edgetrail_collector::relay::{self, RelayJoin};
use edgetrail_link::receipt_keys::ReceiptKeys;
use edgetrail_link::tls::{self, Incoming};
use edgetrail_link::uplink::Credentials;
use edgetrail_link::wire::JoinRequest;
use edgetrail_link::wire::enrollment_server::Enrollment;
use edgetrail_proto::identity::AgentId;
use rcgen::{CertificateParams, KeyPair};

pub const ACCOUNT: &str = "111122223333";
pub const REGION: &str = "dc-local-1";

/// What a host's uplink shows and trusts, as its files and the collector's say.
pub fn credentials(pki: &Pki, host: &Path) -> Arc<Credentials> {
    let (roots, mut receipt_keys) = (pki.roots(), ReceiptKeys::default());
    pki.receipt_keys().into_iter().for_each(|key| receipt_keys.add(key, &roots).unwrap());
    let chain = tls::read_certificates(&host.join(CERTIFICATE_FILE)).unwrap();
    let identity = tls::Identity { chain: chain.clone(), key: tls::read_key(&host.join(KEY_FILE)).unwrap() };
    Arc::new(Credentials { tls: tls::client_config(&roots, Some(identity)).unwrap(), chain, roots, receipt_keys })
}

/// Redeems a token: leaves key and certificate in `host`.
pub async fn join(control: &Control, pki: &Pki, host: &Path, agent: AgentId) {
    let scopes = vec![(ACCOUNT.parse().unwrap(), REGION.parse().unwrap())];
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let new = NewToken { scopes, gateway: false, ttl: Duration::from_secs(60), uses: 1 };
    let token = control.create_token(&new, now).unwrap();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let request = JoinRequest {
        token: token.text,
        csr: CertificateParams::default().serialize_request(&key).unwrap().der().to_vec().into(),
        agent_id: agent.as_bytes().to_vec().into(),
        host: "host".to_owned(),
        version: "1".to_owned(),
    };
    let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: Vec::new() };
    let service = EnrollmentService::new(pki, control.clone(), options);
    let answer = service.join(tonic::Request::new(request)).await.unwrap().into_inner();
    std::fs::write(host.join(KEY_FILE), key.serialize_pem()).unwrap();
    let chain = answer.credentials.unwrap().certificate_chain;
    let pem = chain.iter().map(|der| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", BASE64.encode(der)));
    let pem: String = pem.collect();
    std::fs::write(host.join(CERTIFICATE_FILE), pem).unwrap();
}

/// Redeems a relay's token: leaves its papers in `directory`. Home is known to it by its name on the simulated network.
pub async fn join_relay(control: &Control, pki: &Pki, directory: &Path, name: &str) {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let new = NewRelayToken { name: name.parse().unwrap(), ttl: Duration::from_secs(60) };
    let token = control.create_relay_token(&new, now).unwrap();
    let endpoints = vec![format!("{}:{}", crate::stages::COLLECTOR, crate::collector::PORT)];
    let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: endpoints };
    let service = EnrollmentService::new(pki, control.clone(), options).server();
    // Joining is not simulated: it is over before the first start.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = listener.local_addr().unwrap().to_string().parse().unwrap();
    let serving = tonic::transport::Server::builder().add_service(service);
    let serving = serving.serve_with_incoming(Incoming::new(listener, pki.api_tls()));
    let names = [name.to_owned()];
    let join = RelayJoin { dir: directory, url: &url, token: &token.text, pin: pki.ca_pin(), names: &names };
    tokio::select! {
        served = serving => panic!("{served:?}"),
        joined = relay::join(&join) => drop(joined.unwrap()),
    }
}

/// A record as the agent would make it, with this eventName.
pub fn record(event_name: &str) -> String {
    format!(
        r#"{{"eventVersion":"1.11","userIdentity":{{"type":"Root"}},"eventTime":"2026-01-02T03:04:05Z","eventSource":"sudo.linux","eventName":"{event_name}","awsRegion":"{REGION}","eventCategory":"Management","eventType":"AwsApiCall","recipientAccountId":"{ACCOUNT}"}}"#
    )
}

/// Copies a state directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
