//! Relays join and renew; what a relay's token gives, and what it does not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edgetrail_link::receipt_keys::ReceiptKey;
use edgetrail_link::renewal;
use edgetrail_link::tls::{self, PeerIdentity};
use edgetrail_link::wire::enrollment_server::Enrollment;
use edgetrail_link::wire::{JoinRelayRequest, JoinRelayResponse, JoinRequest, RenewRelayRequest, RenewRelayResponse};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use rustls::pki_types::CertificateDer;
use tonic::{Code, Request};

use crate::control::{Control, NewRelayToken, NewToken};
use crate::pki::{EnrollmentOptions, EnrollmentService, Pki};

struct Home {
    control: Control,
    pki: Pki,
    service: EnrollmentService,
    _directory: tempfile::TempDir,
}

impl Home {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = Control::open(directory.path()).unwrap();
        let (domain, names) = (crate::pki::TRUST_DOMAIN_DEFAULT.parse().unwrap(), ["home.example".to_owned()]);
        let pki = Pki::open(&directory.path().join("pki"), domain, &names, control.revoked()).unwrap();
        let options = EnrollmentOptions { partition: "aws".to_owned(), ingest_endpoints: Vec::new() };
        let service = EnrollmentService::new(&pki, control.clone(), options);
        Self { control, pki, service, _directory: directory }
    }

    fn token(&self, name: &str) -> String {
        let new = NewRelayToken { name: name.parse().unwrap(), ttl: Duration::from_secs(60) };
        self.control.create_relay_token(&new, now_ns()).unwrap().text
    }

    async fn join(&self, request: JoinRelayRequest) -> Result<JoinRelayResponse, Code> {
        let joined = self.service.join_relay(Request::new(request)).await;
        joined.map(tonic::Response::into_inner).map_err(|status| status.code())
    }

    async fn renew(&self, request: RenewRelayRequest) -> Result<RenewRelayResponse, Code> {
        let renewed = self.service.renew_relay(Request::new(request)).await;
        renewed.map(tonic::Response::into_inner).map_err(|status| status.code())
    }
}

fn fresh_key() -> KeyPair {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap()
}

fn request(key: &KeyPair, token: &str, receipt_key: u8, names: &[&str]) -> JoinRelayRequest {
    JoinRelayRequest {
        token: token.to_owned(),
        csr: CertificateParams::default().serialize_request(key).unwrap().der().to_vec().into(),
        receipt_public_key: vec![receipt_key; 32].into(),
        names: names.iter().map(|&name| name.to_owned()).collect(),
        version: "1".to_owned(),
    }
}

fn renewal_of(key: &KeyPair, certificate: &[u8], receipt_key: u8) -> RenewRelayRequest {
    let csr = CertificateParams::default().serialize_request(key).unwrap().der().to_vec();
    let names = vec!["a.example".to_owned()];
    let message = renewal::relay_message(&csr, certificate, 1, &[receipt_key; 32], &names);
    RenewRelayRequest {
        signature: key.sign(&message).unwrap().into(),
        csr: csr.into(),
        certificate: certificate.to_vec().into(),
        time: 1,
        receipt_public_key: vec![receipt_key; 32].into(),
        names,
        version: "2".to_owned(),
    }
}

fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

fn chain(chain: &[bytes::Bytes]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

#[tokio::test]
async fn a_relays_token_gives_it_a_name_certificates_and_a_trusted_receipt_key() {
    let home = Home::open();
    let joined = home.join(request(&fresh_key(), &home.token("tokyo"), 1, &["a.example", "127.0.0.1"])).await.unwrap();
    assert_eq!(joined.name, "tokyo");
    let credentials = joined.credentials.unwrap();
    let (client, server) = (chain(&credentials.certificate_chain), chain(&joined.server_chain));
    let Ok(PeerIdentity::Relay(identity)) = home.pki.authority().peer_of(&client, SystemTime::now()) else {
        panic!("not a relay's chain")
    };
    assert_eq!(identity.to_string(), "spiffe://edgetrail.internal/relay/tokyo");
    assert!(home.pki.authority().agent_of(&client, SystemTime::now()).is_err(), "no agent's");
    assert!(home.pki.authority().peer_of(&server, SystemTime::now()).is_err(), "a server's chain is no client's");
    assert_eq!(tls::names_of(&server[0]).unwrap(), ["dns:a.example"]);
    assert!(credentials.receipt_keys.iter().any(|key| key.public_key == vec![1; 32]));
    assert_eq!(home.pki.receipt_keys().len(), 2);
}

#[tokio::test]
async fn a_token_joins_what_it_is_for_and_once() {
    let home = Home::open();
    let token = home.token("tokyo");
    let agents = NewToken {
        scopes: vec![("111122223333".parse().unwrap(), "dc-local-1".parse().unwrap())],
        gateway: false,
        ttl: Duration::from_secs(60),
        uses: 1,
    };
    let agents = home.control.create_token(&agents, now_ns()).unwrap().text;
    let agent = |token: &str| JoinRequest {
        token: token.to_owned(),
        csr: request(&fresh_key(), "", 1, &[]).csr,
        agent_id: vec![1; 16].into(),
        host: "host".to_owned(),
        version: "1".to_owned(),
    };
    let refused = home.service.join(Request::new(agent(&token))).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "a relay's token joins no agent");
    assert_eq!(home.join(request(&fresh_key(), &agents, 1, &[])).await.unwrap_err(), Code::PermissionDenied);
    // Neither was spent by being misused.
    home.service.join(Request::new(agent(&agents))).await.unwrap();
    home.join(request(&fresh_key(), &token, 1, &[])).await.unwrap();
    assert_eq!(home.join(request(&fresh_key(), &token, 1, &[])).await.unwrap_err(), Code::PermissionDenied, "used up");
}

#[tokio::test]
async fn names_and_receipt_keys_belong_to_one_collector_each() {
    let home = Home::open();
    home.join(request(&fresh_key(), &home.token("tokyo"), 1, &["a.example"])).await.unwrap();
    for (code, receipt_key, name) in [
        (Code::PermissionDenied, 2, "home.example"),
        (Code::PermissionDenied, 2, "a.example"),
        (Code::PermissionDenied, 1, "b.example"),
        (Code::InvalidArgument, 2, "*.example"),
        (Code::InvalidArgument, 2, "A.example"),
        (Code::InvalidArgument, 2, ""),
    ] {
        let refused = home.join(request(&fresh_key(), &home.token("osaka"), receipt_key, &[name])).await;
        assert_eq!(refused.unwrap_err(), code, "{name}");
    }
    let own = home.pki.receipt_signer().public_key();
    let mut as_home = request(&fresh_key(), &home.token("osaka"), 2, &[]);
    as_home.receipt_public_key = own.0.to_vec().into();
    assert_eq!(home.join(as_home).await.unwrap_err(), Code::PermissionDenied, "home's own receipt key");
    home.join(request(&fresh_key(), &home.token("osaka"), 2, &["b.example", "localhost"])).await.unwrap();
}

#[tokio::test]
async fn a_relay_renews_by_its_key_until_it_is_revoked() {
    let home = Home::open();
    let (key, thief) = (fresh_key(), fresh_key());
    let joined = home.join(request(&key, &home.token("tokyo"), 1, &["a.example"])).await.unwrap();
    let leaf = joined.credentials.unwrap().certificate_chain[0].to_vec();
    home.renew(renewal_of(&key, &leaf, 1)).await.unwrap();
    assert_eq!(home.renew(renewal_of(&thief, &leaf, 1)).await.unwrap_err(), Code::PermissionDenied);
    let mut other_names = renewal_of(&key, &leaf, 1);
    other_names.names = vec!["c.example".to_owned()];
    assert_eq!(home.renew(other_names).await.unwrap_err(), Code::PermissionDenied, "the names are signed");
    // Restored from a copy, it goes on under another receipt key; the former one stays good.
    home.renew(renewal_of(&key, &leaf, 5)).await.unwrap();
    let name = "tokyo".parse().unwrap();
    assert_eq!(home.control.relay(&name).unwrap().unwrap().receipt_keys.len(), 2);

    home.control.revoke_relay(&name, 1).unwrap();
    assert_eq!(home.renew(renewal_of(&key, &leaf, 5)).await.unwrap_err(), Code::PermissionDenied);
    assert_eq!(home.pki.receipt_keys().len(), 3, "what it gave a receipt for, it did");
    home.join(request(&fresh_key(), &home.token("tokyo"), 5, &[])).await.expect("a token lets it in again");
    home.control.forget_relay(&name, 1).unwrap();
    assert_eq!(home.join(request(&fresh_key(), &home.token("tokyo"), 5, &[])).await.unwrap_err(), Code::PermissionDenied);
    home.join(request(&fresh_key(), &home.token("tokyo"), 6, &[])).await.expect("with a new receipt key");
}

/// A call that has asked for the keys puts them down before another asks: else an older list would undo a newer one.
#[test]
fn keys_that_another_call_trusted_meanwhile_stay_trusted() {
    let home = Home::open();
    let key = |number: u8| ReceiptKey {
        public_key: edgetrail_proto::chain::PublicKey([number; 32]),
        not_before: 0,
        not_after: u64::MAX,
        ca_signature: Vec::new(),
    };
    std::thread::scope(|scope| {
        // Kept to the end, so that the later call finds somebody to tell.
        let (ended, later) = std::sync::mpsc::sync_channel(1);
        let pki = &home.pki;
        pki.trust_these(|| {
            scope.spawn(move || {
                pki.trust_these(|| vec![key(1), key(2)]).unwrap();
                // Nobody hears it where this was awaited in vain: as it should be.
                ended.send(()).unwrap_or_default();
            });
            // The later call would have ended by now, were it not held back until this one is in effect.
            assert!(later.recv_timeout(Duration::from_millis(500)).is_err(), "the later call went ahead");
            vec![key(1)]
        })
        .unwrap();
    });
    let trusted: Vec<_> = home.pki.receipt_keys().into_iter().map(|key| key.public_key.0).collect();
    assert!(trusted.contains(&[2; 32]), "an older list undid a newer one: {trusted:?}");
}
