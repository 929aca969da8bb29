//! Streams whose certificates a PKI of the operator's own issued: followed offline to that PKI's root, by the name alone.

use std::sync::OnceLock;

use edgetrail_proto::chain::Hash;
use edgetrail_proto::identity::AgentId;
use edgetrail_verify::report::{Check, Report};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    SanType,
};
use rsa::pkcs8::EncodePrivateKey;

use super::trail::{Hooks, T0, Trail};
use super::{WHOLE, report_of};

const NAME: &str = "spiffe://corp.example/host/web-1";

/// As large companies have it: an RSA root, and a P-384 authority below it that issues for machines.
pub(crate) struct Corp {
    pub(crate) root: Vec<u8>,
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// PKCS#8, made once: RSA keys take their time.
fn rsa_key() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
        key.to_pkcs8_der().unwrap().as_bytes().to_vec()
    })
}

impl Corp {
    fn new() -> Self {
        let root = KeyPair::try_from(rsa_key()).unwrap();
        let root = CertifiedIssuer::self_signed(authority("corp root"), root).unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let issuer = CertifiedIssuer::signed_by(authority("corp machines"), key, &root).unwrap();
        Self { root: root.der().to_vec(), issuer }
    }
}

fn hooks(names: Vec<SanType>, agent: AgentId) -> Hooks {
    Hooks {
        corp: Some(Corp::new()),
        certificate: Box::new(move |params| params.subject_alt_names.clone_from(&names)),
        open: Box::new(move |open| open.agent = agent),
        ..Hooks::default()
    }
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn report(hooks: &Hooks) -> Report {
    report_of(&Trail::with(hooks), WHOLE)
}

#[test]
fn a_stream_of_a_foreign_pki_verifies_by_the_name_that_its_agent_follows_from() {
    let dns = SanType::DnsName("web-1.corp.example".try_into().unwrap());
    for (names, name) in [(vec![uri(NAME)], NAME), (vec![dns.clone()], "dns:web-1.corp.example"), (vec![dns, uri(NAME)], NAME)] {
        let report = report(&hooks(names, AgentId::of_name(name)));
        assert!(report.is_good(), "{name}: {report}");
    }
}

#[test]
fn a_foreign_certificate_of_another_name_or_of_no_root_that_was_given_proves_nothing() {
    let agent = AgentId::of_name(NAME);
    for names in [Vec::new(), vec![uri("spiffe://corp.example/host/web-2")], vec![uri(NAME), uri("spiffe://corp.example/b")]] {
        let report = report(&hooks(names.clone(), agent));
        assert!(report.count(Check::OpenCertificate) > 0, "{names:?}: {report}");
    }
    let mut trail = Trail::with(&hooks(vec![uri(NAME)], agent));
    trail.keys.roots.pop();
    let report = report_of(&trail, WHOLE);
    assert!(report.count(Check::OpenCertificate) > 0, "without the foreign root: {report}");
}

/// As an agent does that starts after a long stop, before its PKI has given it a new one.
#[test]
fn a_foreign_certificate_that_had_ended_when_the_stream_was_opened_is_judged_as_of_its_issue() {
    let mut hooks = hooks(Vec::new(), AgentId::of_name(NAME));
    hooks.certificate = Box::new(|params| {
        params.subject_alt_names = vec![uri(NAME)];
        params.not_after = rcgen::date_time_ymd(2026, 1, 15);
    });
    let report = report(&hooks);
    assert_eq!(report.count(Check::OpenExpired), 1, "it ended at midnight before {T0}: {report}");
    assert!(report.is_good(), "{report}");
}

/// An authority that came after the end of what it signed did not sign it when it says.
#[test]
fn certificates_that_were_never_valid_together_are_no_chain() {
    let mut late = authority("corp machines");
    late.not_before = rcgen::date_time_ymd(2026, 1, 14);
    let mut corp = Corp::new();
    let root = KeyPair::try_from(rsa_key()).unwrap();
    let root = CertifiedIssuer::self_signed(authority("corp root"), root).unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    (corp.issuer, corp.root) = (CertifiedIssuer::signed_by(late, key, &root).unwrap(), root.der().to_vec());
    let mut hooks = hooks(Vec::new(), AgentId::of_name(NAME));
    hooks.corp = Some(corp);
    hooks.certificate = Box::new(|params| {
        params.subject_alt_names = vec![uri(NAME)];
        params.not_after = rcgen::date_time_ymd(2026, 1, 13);
    });
    let report = report(&hooks);
    assert!(report.count(Check::OpenCertificate) > 0, "{report}");
}

/// Whoever has an agent's key has a certificate that leads to a root: it vouches for nobody else.
#[test]
fn a_certificate_that_is_no_authority_issues_none() {
    let agent = AgentId::of_name(NAME);
    let mut hooks = hooks(vec![uri(NAME)], agent);
    let corp = Corp::new();
    let mut machine = CertificateParams::new(vec!["db-1.corp.example".to_owned()]).unwrap();
    machine.distinguished_name.push(DnType::CommonName, "db-1");
    machine.is_ca = IsCa::NoCa;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let (root, between) = (corp.root.clone(), corp.issuer.der().to_vec());
    let machine = CertifiedIssuer::signed_by(machine, key, &corp.issuer).unwrap();
    assert_ne!(Hash::of(machine.der()), Hash::of(&between));
    hooks.corp = Some(Corp { root, issuer: machine });
    hooks.chain = Box::new(move |chain, _| chain.push(between.clone().into()));
    let report = report(&hooks);
    assert!(report.count(Check::OpenCertificate) > 0, "a machine's certificate signed another's: {report}");
}
