//! The agent's joining and renewing against the collector's service, over TLS on loopback.
//!
//! The one test that holds both crates: neither knows the other, and what they agree on is the wire.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_agent::enroll::{EnrollError, Enrollment, Identity, Join, JoinUrl, Renewal, join};
use edgetrail_collector::control::{Control, NewToken};
use edgetrail_collector::pki::{EnrollmentOptions, EnrollmentService, Pki};
use edgetrail_link::tls::{self, CaPin, Incoming};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

struct Collector {
    control: Control,
    pki: Pki,
    url: JoinUrl,
    _tasks: JoinSet<()>,
    _directory: tempfile::TempDir,
}

impl Collector {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::open(directory.path()).unwrap();
        let domain = "edgetrail.internal".parse().unwrap();
        let pki = Pki::open(&directory.path().join("pki"), domain, &[], control.revoked()).unwrap();
        let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: vec![":9443".to_owned()] };
        let service = EnrollmentService::new(&pki, control.clone(), options).server();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
        let incoming = Incoming::new(listener, pki.api_tls());
        let mut tasks = JoinSet::new();
        let server = tonic::transport::Server::builder().add_service(service);
        tasks.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self { control, pki, url, _tasks: tasks, _directory: directory }
    }

    async fn join(&self, directory: &Path, pin: CaPin) -> Result<Identity, EnrollError> {
        let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
        let scopes = vec![("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap())];
        let new = NewToken { scopes, gateway: false, ttl: Duration::from_secs(60), uses: 1 };
        let token = self.control.create_token(&new, now).unwrap().text;
        join(&Join { directory, url: &self.url, token: &token, pin, host: "host" }).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_leaves_a_usable_identity_and_joining_again_keeps_the_agent() {
    let collector = Collector::start().await;
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    assert!(Enrollment::load(directory.path()).unwrap().is_none(), "nobody has joined");
    let identity = collector.join(&state, collector.pki.ca_pin()).await.unwrap();
    assert_eq!(identity.endpoints, ["127.0.0.1:9443"], "a port alone is on the host that was joined");
    let first = Enrollment::load(&state).unwrap().unwrap();
    assert_eq!((&first.identity, first.receipt_keys.iter().count()), (&identity, 1));
    assert!(first.credentials().is_ok());
    assert_eq!(first.binding().unwrap().to_bytes(), b"111122223333/dc-local-1\nhost\n");
    let again = collector.join(&state, collector.pki.ca_pin()).await.unwrap();
    let second = Enrollment::load(&state).unwrap().unwrap();
    assert_eq!(again.agent_id, identity.agent_id);
    let key = |enrollment: &Enrollment| tls::public_key_of(&enrollment.tls.chain[0]).unwrap();
    assert_ne!(key(&first), key(&second), "a fresh key leaves clones behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pin_joins_nothing_and_leaves_the_former_identity() {
    let collector = Collector::start().await;
    let directory = tempfile::tempdir().unwrap();
    let wrong: CaPin = format!("sha256:{}", "00".repeat(32)).parse().unwrap();
    let refused = collector.join(directory.path(), wrong).await;
    assert!(matches!(refused, Err(EnrollError::Connect(_))), "{refused:?}");
    assert!(Enrollment::load(directory.path()).unwrap().is_none());
    let identity = collector.join(directory.path(), collector.pki.ca_pin()).await.unwrap();
    assert!(collector.join(directory.path(), wrong).await.is_err());
    assert_eq!(Enrollment::load(directory.path()).unwrap().unwrap().identity, identity);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_past_half_of_its_life_or_expired_is_renewed_in_place() {
    let collector = Collector::start().await;
    let directory = tempfile::tempdir().unwrap();
    let identity = collector.join(directory.path(), collector.pki.ca_pin()).await.unwrap();
    for age_h in [13, 24 * 5] {
        // The agent joined long ago, and its certificate is of then.
        let mut agent = collector.control.agent(identity.agent_id).unwrap().unwrap();
        agent.joined_ns = 1;
        collector.control.upsert_agent(&agent).unwrap();
        let mut enrollment = Enrollment::load(directory.path()).unwrap().unwrap();
        let authority = collector.pki.authority();
        let key = rcgen::KeyPair::try_from(enrollment.tls.key.secret_der()).unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let request = authority.check_request(request.der()).unwrap();
        let holder = tls::identity_of(&enrollment.tls.chain[0]).unwrap();
        let at = SystemTime::now() - Duration::from_secs(age_h * 3600);
        enrollment.tls.chain = authority.issue_agent(&request, &holder, at).unwrap();
        let old = enrollment.validity().unwrap();

        let (renewal, mut credentials) = Renewal::new(enrollment).unwrap();
        let stop = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(renewal.run(stop.clone()));
        let renewed = tokio::time::timeout(Duration::from_secs(20), credentials.changed()).await;
        renewed.expect("renewed in time").unwrap();
        let stored = Enrollment::load(directory.path()).unwrap().unwrap();
        assert!(stored.validity().unwrap().1 > old.1, "{age_h} h old");
        assert_eq!(stored.identity, identity);
        stop.cancel();
        running.join_next().await.unwrap().unwrap();
    }
}
