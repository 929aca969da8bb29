//! A collector in this process: control store, PKI, ledger, internal stream, ingest; and its files, kept and restored.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_collector::control::{Control, NewToken};
use edgetrail_collector::ingest::{Ingest, go_on_restored};
use edgetrail_collector::internal::{Home, Internal};
use edgetrail_collector::ledger::{Entry, Ledger, LedgerOptions};
use edgetrail_collector::pki::{EnrollmentOptions, EnrollmentService, Pki};
use edgetrail_link::receipt_keys::ReceiptKeys;
use edgetrail_link::tls;
use edgetrail_link::uplink::{Credentials, Endpoint};
use edgetrail_link::wire::JoinRequest;
use edgetrail_link::wire::enrollment_server::Enrollment;
use edgetrail_proto::chain::Cause;
use edgetrail_proto::identity::AgentId;
use rcgen::{CertificateParams, KeyPair};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::host::{Host, copy};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const REGION: &str = "dc-local-1";

pub(crate) struct Collector {
    directory: tempfile::TempDir,
    kept: Option<tempfile::TempDir>,
    parts: Option<Parts>,
}

struct Parts {
    ledger: Ledger,
    control: Control,
    pki: Pki,
    endpoint: Endpoint,
    /// Ingest, then the internal stream, then the ledger.
    stages: Vec<(CancellationToken, JoinSet<()>)>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let parts = Parts::start(directory.path()).await;
        Self { directory, kept: None, parts: Some(parts) }
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().unwrap()
    }

    async fn stop(&mut self) {
        for (stop, mut tasks) in self.parts.take().unwrap().stages {
            stop.cancel();
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap();
            }
        }
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.parts = Some(Parts::start(self.directory.path()).await);
    }

    /// Keeps a copy of everything, as a backup would.
    pub(crate) async fn keep(&mut self) {
        self.stop().await;
        let kept = tempfile::tempdir().unwrap();
        copy(self.directory.path(), kept.path());
        self.kept = Some(kept);
        self.parts = Some(Parts::start(self.directory.path()).await);
    }

    /// Goes back to the copy, if there is one.
    pub(crate) async fn restore(&mut self) -> bool {
        let Some(kept) = &self.kept else { return false };
        let back = tempfile::tempdir().unwrap();
        copy(kept.path(), back.path());
        self.stop().await;
        self.directory = back;
        self.parts = Some(Parts::start(self.directory.path()).await);
        true
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        self.parts().endpoint.clone()
    }

    /// Redeems a token: leaves key and certificate in `directory`.
    pub(crate) async fn join(&self, directory: &Path, agent: AgentId) {
        let Parts { control, pki, .. } = self.parts();
        let scopes = vec![(ACCOUNT.parse().unwrap(), REGION.parse().unwrap())];
        let ttl = Duration::from_secs(60);
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        let token = control.create_token(&NewToken { scopes, gateway: false, ttl, uses: 1 }, now).unwrap();
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
        let chain = answer.credentials.unwrap().certificate_chain;
        let pem: String = chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
        std::fs::write(directory.join("agent.key"), key.serialize_pem()).unwrap();
        std::fs::write(directory.join("agent.pem"), pem).unwrap();
    }

    /// What the host's uplink shows and trusts, as its files say.
    pub(crate) fn credentials(&self, directory: &Path) -> Arc<Credentials> {
        let pki = &self.parts().pki;
        let (roots, mut receipt_keys) = (pki.roots(), ReceiptKeys::default());
        pki.receipt_keys().into_iter().for_each(|key| receipt_keys.add(key, &roots).unwrap());
        let chain = tls::read_certificates(&directory.join("agent.pem")).unwrap();
        let identity = tls::Identity { chain: chain.clone(), key: tls::read_key(&directory.join("agent.key")).unwrap() };
        let tls = tls::client_config(&roots, Some(identity)).unwrap();
        Arc::new(Credentials { tls, chain, roots, receipt_keys })
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.parts().ledger
    }

    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let entries = self.ledger().read(from, 1 << 20).unwrap();
            let Some(last) = entries.last() else { return all };
            from = last.index + 1;
            all.extend(entries);
        }
    }

    /// Names of the hosts' events that are in the ledger.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let entries = self.entries();
        let records = entries.iter().filter(|entry| !entry.stream.internal).flat_map(|entry| &entry.records);
        records.map(|record| record.facets.as_ref().unwrap().name.clone()).collect()
    }

    pub(crate) fn is_frozen(&self, host: &Host) -> bool {
        self.ledger().streams_of(host.agent()).unwrap().iter().any(|state| state.is_frozen())
    }

    pub(crate) fn causes(&self, host: &Host) -> Vec<Cause> {
        self.ledger().streams_of(host.agent()).unwrap().iter().map(|state| state.info.open.cause).collect()
    }
}

impl Parts {
    async fn start(directory: &Path) -> Self {
        let control = Control::open(directory).unwrap();
        let domain = "edgetrail.internal".parse().unwrap();
        let pki = Pki::open(&directory.join("pki"), domain, &[], control.revoked()).unwrap();
        let mut options = LedgerOptions::new(Arc::new(pki.receipt_signer()));
        options.former_keys = pki.own_receipt_keys();
        let (ledger, ledger_task) = Ledger::open(&directory.join("ledger"), options).unwrap();
        let mut stages = Vec::new();
        let mut stage = |run: futures_run::Run| {
            let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
            tasks.spawn(run(stop.clone()));
            stages.insert(0, (stop, tasks));
        };
        stage(Box::new(move |stop| Box::pin(async move { ledger_task.run(stop).await.unwrap() })));
        let home = Home { account: ACCOUNT.parse().unwrap(), region: REGION.parse().unwrap(), host: "collector".to_owned() };
        let (internal, internal_task) = Internal::open(directory, ledger.clone(), pki.authority(), &home).await.unwrap();
        go_on_restored(&ledger, &pki, internal_task.restored()).await.unwrap();
        stage(Box::new(move |stop| Box::pin(async move { internal_task.run(stop).await.unwrap() })));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() };
        let ingest = Ingest::new(ledger.clone(), control.clone(), &pki, Some(internal));
        stage(Box::new(move |stop| Box::pin(async move { ingest.serve(listener, stop).await.unwrap() })));
        Self { ledger, control, pki, endpoint, stages }
    }
}

mod futures_run {
    use std::future::Future;
    use std::pin::Pin;

    use tokio_util::sync::CancellationToken;

    /// A stage's task, given its stop.
    pub(crate) type Run = Box<dyn FnOnce(CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>>>;
}

fn pem(label: &str, der: &[u8]) -> String {
    use std::fmt::Write as _;
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = group.iter().chain([&0, &0]).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        writeln!(out, "{}", std::str::from_utf8(line).unwrap()).unwrap();
    }
    out + &format!("-----END {label}-----\n")
}
