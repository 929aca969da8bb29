//! The root replaced, foreign roots and names, files that change under a running collector.

use std::path::Path;
use std::time::{Duration, SystemTime};

use edgetrail_link::receipt_keys::ReceiptKeys;
use edgetrail_proto::identity::AgentId;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::pki::{
    AGENT_CERTIFICATE_LIFE, Authority, AuthorityOptions, ChainError, ForeignOptions, MappedAgent, Pki, PkiOptions, ServerFiles,
    TRUST_DOMAIN_DEFAULT, rotation,
};

const IDENTITY: &str =
    "spiffe://edgetrail.internal/account/111122223333/region/dc-local-1/agent/0190b2a4-0000-7000-8000-000000000001";

fn options(foreign: ForeignOptions) -> AuthorityOptions {
    AuthorityOptions { trust_domain: TRUST_DOMAIN_DEFAULT.parse().unwrap(), certificate_life: AGENT_CERTIFICATE_LIFE, foreign }
}

fn issue(authority: &Authority) -> Vec<CertificateDer<'static>> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let request = authority.check_request(csr.der()).unwrap();
    authority.issue_agent(&request, &IDENTITY.parse().unwrap(), SystemTime::now()).unwrap()
}

#[test]
fn both_roots_are_trusted_from_rotate_to_retire_and_a_retired_one_for_past_opens_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (path, now) = (directory.path(), SystemTime::now());
    let authority = Authority::open_with(path, options(ForeignOptions::default())).unwrap();
    let (first, before) = (authority.certificate(), issue(&authority));
    rotation::rotate(path).unwrap();
    assert!(rotation::rotate(path).is_err(), "one at a time");
    authority.reload().unwrap();
    let during = issue(&authority);
    assert_ne!(during[1], first, "agents' certificates come from the next root");
    assert_eq!(authority.certificate(), first, "servers' from the first, which every agent trusts");
    for chain in [&before, &during] {
        assert_eq!(authority.agent_of(chain, now).unwrap().to_string(), IDENTITY);
    }
    rotation::retire(path).unwrap();
    assert!(rotation::retire(path).is_err());
    authority.reload().unwrap();
    assert_eq!(authority.certificate(), during[1]);
    assert!(authority.agent_of(&during, now).is_ok());
    assert!(matches!(authority.agent_of(&before, now), Err(ChainError::Chain(_))));
    assert!(authority.agent_once(&before, now).is_ok(), "an open of before may still be brought");
    let count = |name: &str| std::fs::read_to_string(path.join(name)).unwrap().matches("BEGIN CERTIFICATE").count();
    assert_eq!((count("ca.pem"), count("roots.pem")), (1, 2));
    assert!(!path.join("ca-next.key").exists() && !path.join("ca-next.pem").exists());
}

#[test]
fn a_retirement_that_a_crash_cut_short_is_finished_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let authority = Authority::open_with(path, options(ForeignOptions::default())).unwrap();
    rotation::rotate(path).unwrap();
    authority.reload().unwrap();
    let next = issue(&authority)[1].clone();
    // The crash: the key is in place, the certificate not yet.
    std::fs::rename(path.join("ca-next.key"), path.join("ca.key")).unwrap();
    let authority = Authority::open_with(path, options(ForeignOptions::default())).unwrap();
    assert_eq!(authority.certificate(), next);
    assert_eq!(authority.roots(), [next]);
}

#[test]
fn receipt_keys_come_signed_by_every_root_that_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let control = Control::open(directory.path()).unwrap();
    let path = directory.path().join("pki");
    let open = || Pki::open(&path, TRUST_DOMAIN_DEFAULT.parse().unwrap(), &[], control.revoked()).unwrap();
    let key = open().receipt_keys()[0].public_key;
    rotation::rotate(&path).unwrap();
    let pki = open();
    let (keys, roots) = (pki.receipt_keys(), pki.roots());
    assert_eq!((keys.len(), roots.len()), (2, 2));
    for (key, root) in keys.iter().zip(&roots) {
        ReceiptKeys::default().add(key.clone(), std::slice::from_ref(root)).unwrap();
    }
    rotation::retire(&path).unwrap();
    let pki = open();
    assert_eq!((pki.receipt_keys().len(), pki.receipt_keys()[0].public_key), (1, key), "the same key, signed anew");
    ReceiptKeys::default().add(pki.receipt_keys()[0].clone(), &roots[1..]).unwrap();
}

/// A PKI of somebody else's.
struct Corp {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

fn corp() -> Corp {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, rcgen::DnValue::Utf8String(hex::encode(key.public_key_raw())));
    let root = params.self_signed(&key).unwrap().pem();
    Corp { issuer: Issuer::new(params, key), root }
}

impl Corp {
    fn issue(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> (String, KeyPair, Vec<CertificateDer<'static>>) {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (leaf.pem(), key, vec![leaf.der().clone()])
    }

    fn agent(&self, names: Vec<SanType>) -> Vec<CertificateDer<'static>> {
        self.issue(names, ExtendedKeyUsagePurpose::ClientAuth).2
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn mapped(name: &str) -> MappedAgent {
    MappedAgent {
        name: name.to_owned(),
        account: "444455556666".parse().unwrap(),
        region: "dc-osaka-1".parse().unwrap(),
        agent: AgentId::of_name(name),
    }
}

#[test]
fn a_foreign_root_vouches_for_those_that_the_table_names_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let (corp, now) = (corp(), SystemTime::now());
    let root = directory.path().join("corp.pem");
    std::fs::write(&root, &corp.root).unwrap();
    let agents = vec![mapped("spiffe://corp.example/web"), mapped("dns:db.corp.example")];
    let foreign = ForeignOptions { roots: vec![root.clone()], agents };
    let authority = Authority::open_with(&directory.path().join("pki"), options(foreign)).unwrap();
    let web = authority.agent_of(&corp.agent(vec![uri("spiffe://corp.example/web")]), now).unwrap();
    assert_eq!((web.agent, web.account.as_str()), (AgentId::of_name("spiffe://corp.example/web"), "444455556666"));
    let db = corp.agent(vec![SanType::DnsName("db.corp.example".try_into().unwrap())]);
    assert_eq!(authority.agent_of(&db, now).unwrap().agent, AgentId::of_name("dns:db.corp.example"));

    let unknown =
        [uri(IDENTITY), uri("spiffe://corp.example/webx"), SanType::DnsName("spiffe://corp.example/web".try_into().unwrap())];
    for name in unknown {
        let refused = authority.agent_of(&corp.agent(vec![name.clone()]), now);
        assert!(matches!(refused, Err(ChainError::Unknown(_))), "{name:?}: {refused:?}");
    }
    let two = corp.agent(vec![uri("spiffe://corp.example/web"), uri("spiffe://corp.example/other")]);
    assert!(authority.agent_of(&two, now).is_err(), "two ids are none");
    let (_, _, server) = corp.issue(vec![uri("spiffe://corp.example/web")], ExtendedKeyUsagePurpose::ServerAuth);
    assert!(authority.agent_of(&server, now).is_err(), "not a client's");
    assert_eq!(authority.agent_of(&issue(&authority), now).unwrap().to_string(), IDENTITY, "joined agents go on");
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn write_server(corp: &Corp, directory: &Path) {
    let name = SanType::DnsName("localhost".try_into().unwrap());
    let (leaf, key, _) = corp.issue(vec![name], ExtendedKeyUsagePurpose::ServerAuth);
    // Key first: for a moment the two do not match, and what was in use stays in use.
    std::fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("server.pem"), format!("{leaf}{}", corp.root)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_replaced_on_disk_are_taken_up_and_unusable_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (one, other) = (corp(), corp());
    write_server(&one, path);
    std::fs::write(path.join("agents.pem"), &one.root).unwrap();
    let server = ServerFiles { certificate: path.join("server.pem"), key: path.join("server.key") };
    let foreign = ForeignOptions { roots: vec![path.join("agents.pem")], agents: vec![mapped("spiffe://corp.example/web")] };
    let control = Control::open(path).unwrap();
    let options = PkiOptions { authority: options(foreign), server_names: Vec::new(), server: Some(server) };
    let pki = Pki::open_with(&path.join("pki"), options, control.revoked()).unwrap();
    let (mut tls, pin, now) = (pki.ingest_tls(), pki.ca_pin(), SystemTime::now());
    let web = |corp: &Corp| corp.agent(vec![uri("spiffe://corp.example/web")]);
    assert!(pki.authority().agent_of(&web(&one), now).is_ok() && pki.authority().agent_of(&web(&other), now).is_err());
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    tasks.spawn(pki.clone().run(stop.clone()));

    std::fs::write(path.join("agents.pem"), "-----BEGIN CERTIFICATE-----\nno").unwrap();
    assert!(pki.reload().is_err(), "it is looked at and not taken");
    assert!(pki.authority().agent_of(&web(&one), now).is_ok(), "what is no certificate replaces nothing");
    std::fs::write(path.join("agents.pem"), format!("{}{}", one.root, other.root)).unwrap();
    eventually("the second root", || pki.authority().agent_of(&web(&other), now).is_ok()).await;
    tls.borrow_and_update();
    write_server(&other, path);
    eventually("the server's certificate", || pki.ca_pin() != pin).await;
    assert!(tls.has_changed().unwrap());
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}
