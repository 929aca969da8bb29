//! Certificates of a PKI of the operator's own, on both sides, replaced on disk while everything runs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::process::{Process, binary, succeed, text};
use edgetrail_tests::{delivered, wait};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};

use crate::poster::Poster;

const NAME: &str = "spiffe://corp.example/host/web-1";

struct Corp {
    issuer: Issuer<'static, KeyPair>,
    root: String,
}

impl Corp {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let root = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// Writes a fresh key and its certificate, key first.
    fn issue(&self, directory: &Path, file: &str, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(directory.join(format!("{file}.key")), key.serialize_pem()).unwrap();
        std::fs::write(directory.join(format!("{file}.pem")), format!("{}{}", leaf.pem(), self.root)).unwrap();
    }

    fn issue_agent(&self, directory: &Path) {
        let names = vec![SanType::URI(NAME.try_into().unwrap())];
        self.issue(directory, "agent", names, ExtendedKeyUsagePurpose::ClientAuth);
    }

    fn issue_server(&self, directory: &Path) {
        let names = vec![SanType::IpAddress("127.0.0.1".parse().unwrap())];
        self.issue(directory, "server", names, ExtendedKeyUsagePurpose::ServerAuth);
    }
}

#[test]
fn foreign_certificates_work_on_both_sides_and_are_replaced_without_restart() {
    let files = tempfile::tempdir().unwrap();
    let dir = files.path();
    let corp = Corp::new("corp one");
    corp.issue_server(dir);
    corp.issue_agent(dir);
    std::fs::write(dir.join("corp.pem"), &corp.root).unwrap();
    let at = |name: &str| dir.join(name).display().to_string();
    let settings = format!(
        "[pki]\ncertificate = \"{}\"\nkey = \"{}\"\nagent_roots = [\"{}\"]\n\
         [[pki.agents]]\nname = \"{NAME}\"\naccount = \"444455556666\"\nregion = \"dc-osaka-1\"\n",
        at("server.pem"),
        at("server.key"),
        at("corp.pem"),
    );
    let deployment = Deployment::with_collector_settings(&[], &settings);
    let config = format!(
        "[agent]\nstate_dir = \"{}\"\nhost = \"web-1\"\n[sources.api]\npath = \"{}\"\n[sources.audit]\nenabled = false\n\
         [sources.journal]\nenabled = false\n[uplink]\ncollectors = [\"127.0.0.1:{}\"]\n\
         [identity]\ncertificate = \"{}\"\nkey = \"{}\"\nroots = [\"{}\", \"{}\"]\naccount = \"444455556666\"\nregion = \"dc-osaka-1\"\n",
        at("state"),
        at("api.sock"),
        deployment.ingest_port(),
        at("agent.pem"),
        at("agent.key"),
        at("corp.pem"),
        deployment.ca().display(),
    );
    std::fs::write(dir.join("agent.toml"), config).unwrap();
    let mut run = Command::new(binary("edgetrail-agent"));
    let agent = Process::start("agent", run.arg("run").arg("--config").arg(dir.join("agent.toml")), &dir.join("agent.log"));
    let socket = dir.join("api.sock");
    wait::until("the agent's socket", Duration::from_secs(30), || std::os::unix::net::UnixStream::connect(&socket).ok());
    let poster = Poster::start(&socket, "Foreign");
    let sessions = || agent.printed().matches("resumed").count();
    wait::until("a session", Duration::from_secs(30), || (sessions() == 1).then_some(()));

    // A new key: a hand-over, at once, and nothing is lost or doubled.
    corp.issue_agent(dir);
    wait::until("the hand-over", Duration::from_secs(30), || (sessions() == 2).then_some(()));
    assert!(agent.printed().contains("credentials replaced"));
    // Half a replacement is none.
    std::fs::write(dir.join("agent.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    wait::until("the refusal", Duration::from_secs(30), || agent.printed().contains("do not belong together").then_some(()));
    corp.issue_agent(dir);
    wait::until("the next hand-over", Duration::from_secs(30), || (sessions() == 3).then_some(()));

    // Another root, both sides: first it is trusted, then it is used.
    let other = Corp::new("corp two");
    std::fs::write(dir.join("corp.pem"), format!("{}{}", corp.root, other.root)).unwrap();
    wait::until("the collector and the agent to trust both", Duration::from_secs(30), || {
        let taken = |log: String, text: &str| log.matches(text).count();
        (taken(deployment.collector_printed(), "certificates and roots taken up") >= 1
            && taken(agent.printed(), "are taken up") >= 3)
            .then_some(())
    });
    other.issue_agent(dir);
    other.issue_server(dir);
    wait::until("a session under the other root", Duration::from_secs(60), || (sessions() >= 4).then_some(()));
    let count = poster.all_delivered(&deployment.trail());
    eprintln!("{count} events over {} sessions", sessions());
    let bound = delivered::records(&deployment.trail()).into_iter().filter(|(_, record)| record["eventName"] == "Foreign");
    for (path, record) in bound {
        assert_eq!(
            (&record["recipientAccountId"], &record["awsRegion"]),
            (&"444455556666".into(), &"dc-osaka-1".into()),
            "{path:?}"
        );
    }
    let agents = text(&succeed(deployment.collector_command().args(["agents", "list"])));
    assert!(agents.contains(NAME), "{agents}");
    assert!(agent.stop().success());
}
