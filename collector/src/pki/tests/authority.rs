//! What the authority issues, and whom it takes for an agent.

use std::path::Path;
use std::time::SystemTime;

use edgetrail_proto::identity::AgentIdentity;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};

use crate::pki::{AGENT_CERTIFICATE_LIFE, Authority, AuthorityError, CA_FILE, ChainError};

fn authority(directory: &Path) -> Authority {
    Authority::open(directory, "edgetrail.internal".parse().unwrap()).unwrap()
}

fn identity() -> AgentIdentity {
    "spiffe://edgetrail.internal/account/111122223333/region/dc-local-1/agent/0190b2a4-0000-7000-8000-000000000001"
        .parse()
        .unwrap()
}

fn request(params: CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

#[test]
fn the_authority_is_the_same_after_a_restart_and_after_losing_only_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let first = authority(directory.path()).certificate().clone();
    assert_eq!(authority(directory.path()).certificate(), first);
    std::fs::remove_file(directory.path().join(CA_FILE)).unwrap();
    let remade = authority(directory.path());
    let chain = [remade.issue_server(&[], SystemTime::now()).unwrap().chain[1].clone()];
    assert_eq!(chain[0], remade.certificate());
    std::fs::remove_file(directory.path().join("ca.key")).unwrap();
    let refused = Authority::open(directory.path(), "edgetrail.internal".parse().unwrap());
    assert!(matches!(refused, Err(AuthorityError::NoKey { .. })));
}

#[test]
fn key_files_are_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let pki = directory.path().join("pki");
    authority(&pki);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&pki), mode(&pki.join("ca.key"))), (0o700, 0o600));
}

#[test]
fn an_agents_certificate_says_what_the_authority_says_not_what_was_asked() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority(directory.path());
    let mut asked = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    asked.subject_alt_names.push(SanType::URI("spiffe://edgetrail.internal/account/999999999999".try_into().unwrap()));
    asked.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let request = authority.check_request(&request(asked)).unwrap();
    let now = SystemTime::now();
    let chain = authority.issue_agent(&request, &identity(), now).unwrap();
    assert_eq!(authority.agent_of(&chain, now).unwrap(), identity());
    let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    assert!(authority.agent_of(&chain, now + AGENT_CERTIFICATE_LIFE + std::time::Duration::from_secs(300)).is_err(), "expired");
}

#[test]
fn chains_of_another_authority_and_of_a_server_name_no_agent() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (ours, theirs) = (authority(here.path()), authority(there.path()));
    let now = SystemTime::now();
    let foreign = theirs.issue_agent(&theirs.check_request(&request(CertificateParams::default())).unwrap(), &identity(), now);
    assert!(matches!(ours.agent_of(&foreign.unwrap(), now), Err(ChainError::Chain(_))));
    let server = ours.issue_server(&["collector.example".to_owned()], now).unwrap();
    assert!(ours.agent_of(&server.chain, now).is_err());
    assert!(ours.agent_of(&[], now).is_err());
}

proptest::proptest! {
    #[test]
    fn arbitrary_requests_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600), at in 0..300usize) {
        let directory = tempfile::tempdir().unwrap();
        let authority = authority(directory.path());
        proptest::prop_assert!(authority.check_request(&bytes).is_err());
        let mut real = request(CertificateParams::default());
        let at = at % real.len();
        real[at] ^= 0x55;
        // A flipped bit may survive only outside what is signed; it must never panic.
        drop(authority.check_request(&real));
    }
}
