//! 8: certificates that are revoked, expired, of the future, for other uses, of other domains, of nobody; revoked mid-stream.

use edgetrail_link::tls;
use edgetrail_link::uplink::{Endpoint, channel};
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::succeed;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::time::{Duration, Instant, SystemTime};

use crate::abused::Abused;
use crate::rogue::{Rogue, block_on};

/// The deployment's own root, as somebody has it who took the key.
fn stolen_root(deployment: &Deployment) -> Issuer<'static, KeyPair> {
    let pki = deployment.collector_state().join("pki");
    let key = KeyPair::from_pem(&std::fs::read_to_string(pki.join("ca.key")).unwrap()).unwrap();
    let root = tls::read_certificates(&pki.join("ca.pem")).unwrap().remove(0);
    Issuer::from_ca_cert_der(&root, key).unwrap()
}

fn other_root() -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Issuer::new(params, KeyPair::generate().unwrap())
}

struct Claim {
    uris: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    begins_s: i64,
    ends_s: i64,
}

impl Claim {
    fn of(domain: &str, agent: &str) -> Self {
        let uri = format!("spiffe://{domain}/account/111122223333/region/dc-local-1/agent/{agent}");
        Self { uris: vec![uri], usage: ExtendedKeyUsagePurpose::ClientAuth, begins_s: -60, ends_s: 3600 }
    }

    fn issue(&self, issuer: &Issuer<'_, KeyPair>) -> tls::Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = self.uris.iter().map(|uri| SanType::URI(uri.as_str().try_into().unwrap())).collect();
        params.distinguished_name.push(DnType::CommonName, self.uris.first().map_or("agent", String::as_str));
        params.extended_key_usages = vec![self.usage.clone()];
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let at = |offset: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs((now + offset).cast_unsigned());
        (params.not_before, params.not_after) = (at(self.begins_s), at(self.ends_s));
        let leaf = params.signed_by(&key, issuer).unwrap();
        tls::Identity { chain: vec![leaf.der().clone()], key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) }
    }
}

/// Whether the collector lets this identity in as far as gRPC.
async fn let_in(roots: &[CertificateDer<'static>], endpoint: &Endpoint, identity: Option<tls::Identity>) -> bool {
    let tls = tls::client_config(roots, identity).unwrap();
    // With TLS 1.3 a client learns of its refusal only when it reads.
    let Ok(channel) = channel(endpoint, tls).await else { return false };
    let mut client = edgetrail_link::wire::ingest_client::IngestClient::new(channel);
    client.attach(tokio_stream::pending()).await.is_ok()
}

#[test]
fn t08_no_other_certificate_than_a_valid_agents_gets_a_connection() {
    let abused = Abused::start();
    let agent = "0190b2a4-0000-7000-8000-000000000001";
    let (own, other) = (stolen_root(&abused.deployment), other_root());
    let good = || Claim::of("edgetrail.internal", agent);
    let mut refused: Vec<(&str, tls::Identity)> = vec![
        ("expired", Claim { begins_s: -7200, ends_s: -60, ..good() }.issue(&own)),
        ("of the future", Claim { begins_s: 600, ..good() }.issue(&own)),
        ("a server's", Claim { usage: ExtendedKeyUsagePurpose::ServerAuth, ..good() }.issue(&own)),
        ("another domain's", Claim::of("evil.example", agent).issue(&own)),
        ("another root's", good().issue(&other)),
        ("without names", Claim { uris: Vec::new(), ..good() }.issue(&own)),
    ];
    let two = [good().uris, Claim::of("edgetrail.internal", "0190b2a4-0000-7000-8000-000000000002").uris].concat();
    refused.push(("two agents'", Claim { uris: two, ..good() }.issue(&own)));
    abused.withstands(|| {
        let (ended, took) = block_on(async {
            let rogue = Rogue::join(&abused.deployment).await;
            let roots = &rogue.enrollment.roots;
            for (what, identity) in &refused {
                assert!(!let_in(roots, &rogue.endpoint, Some(identity.clone())).await, "{what}");
            }
            assert!(!let_in(roots, &rogue.endpoint, None).await, "none");
            assert!(let_in(roots, &rogue.endpoint, Some(good().issue(&own))).await, "the others were refused for their faults");
            // Mid-stream: the session that was good a moment ago ends, and its holder is not let in again.
            let mut stream = rogue.stream();
            let mut conversation = rogue.opened(&stream).await;
            conversation.batch(stream.batch(&["BeforeRevocation"])).await;
            conversation.receipted().await;
            let asked = Instant::now();
            succeed(abused.deployment.collector_command().args(["agents", "revoke", &rogue.agent().to_string()]));
            let ended = conversation.hear().await.is_none();
            let took = asked.elapsed();
            assert!(!let_in(roots, &rogue.endpoint, Some(rogue.enrollment.tls.clone())).await, "revoked");
            (ended, took)
        });
        eprintln!("revoked mid-stream in {took:?}, the command included");
        assert!(ended && took <= Duration::from_secs(5), "{took:?}");
    });
}
