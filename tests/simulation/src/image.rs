//! State directories as joining leaves them: made once in a process, copied for each seed.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use edgetrail_agent::buffer;
use edgetrail_agent::enroll::{CERTIFICATE_FILE, KEY_FILE};
use edgetrail_collector::control::{Control, NewToken};
use edgetrail_collector::pki::{EnrollmentOptions, EnrollmentService, Pki};
use edgetrail_disk::Medium;
use edgetrail_link::receipt_keys::ReceiptKeys;
use edgetrail_link::tls;
use edgetrail_link::uplink::Credentials;
use edgetrail_link::wire::JoinRequest;
use edgetrail_link::wire::enrollment_server::Enrollment;
use edgetrail_proto::identity::AgentId;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "dc-local-1";

/// The collector's name on the network and in its certificate.
pub(crate) const COLLECTOR: &str = "collector";

/// Hosts that have joined.
pub(crate) const HOSTS: usize = 2;

/// A collector and its hosts before the first start.
pub(crate) struct Image {
    collector: TempDir,
    hosts: Vec<TempDir>,
}

impl Image {
    pub(crate) fn get() -> &'static Self {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(|| {
            drop(rustls::crypto::ring::default_provider().install_default());
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(Self::make())
        })
    }

    async fn make() -> Self {
        let collector = directory();
        let control = Control::open(collector.path()).unwrap();
        let pki = open_pki(collector.path(), &control);
        let mut hosts = Vec::new();
        for number in 0..HOSTS {
            let host = directory();
            join(&control, &pki, host.path(), agent(number)).await;
            buffer::prepare(&Medium::real(), host.path()).unwrap();
            hosts.push(host);
        }
        Self { collector, hosts }
    }

    pub(crate) fn collector(&self) -> TempDir {
        copied(self.collector.path())
    }

    pub(crate) fn host(&self, number: usize) -> TempDir {
        copied(self.hosts[number].path())
    }
}

pub(crate) fn agent(number: usize) -> AgentId {
    AgentId::from_bytes([u8::try_from(number).unwrap() + 1; 16])
}

pub(crate) fn open_pki(directory: &Path, control: &Control) -> Pki {
    let domain = "edgetrail.internal".parse().unwrap();
    Pki::open(&directory.join("pki"), domain, &[COLLECTOR.to_owned()], control.revoked()).unwrap()
}

/// What a host's uplink shows and trusts, as its files and the collector's say.
pub(crate) fn credentials(pki: &Pki, host: &Path) -> Arc<Credentials> {
    let (roots, mut receipt_keys) = (pki.roots(), ReceiptKeys::default());
    pki.receipt_keys().into_iter().for_each(|key| receipt_keys.add(key, &roots).unwrap());
    let chain = tls::read_certificates(&host.join(CERTIFICATE_FILE)).unwrap();
    let identity = tls::Identity { chain: chain.clone(), key: tls::read_key(&host.join(KEY_FILE)).unwrap() };
    Arc::new(Credentials { tls: tls::client_config(&roots, Some(identity)).unwrap(), chain, roots, receipt_keys })
}

async fn join(control: &Control, pki: &Pki, host: &Path, agent: AgentId) {
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

/// In memory where the machine offers it: what power cuts do to a disk is tests/power's subject.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn copied(from: &Path) -> TempDir {
    let to = directory();
    copy(from, to.path());
    to
}

fn copy(from: &Path, to: &Path) {
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
