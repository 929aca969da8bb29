//! Who has no valid certificate of this collector's CA gets no further than the handshake on the ingest port.
//!
//! The peer is OpenSSL, through Python: another implementation of TLS than the collector's.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use edgetrail_agent::enroll::Enrollment;
use edgetrail_collector::control::Control;
use edgetrail_collector::pki::Pki;
use edgetrail_link::tls;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::process::text;
use edgetrail_tests::wait;
use serde_json::json;

/// Connects, and prints `served` if the server speaks, else why it does not. Under TLS 1.3 a client hears only after its
/// own last message that it was refused.
const PEER: &str = "
import socket, ssl, sys
port, ca, identity = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
context = ssl.create_default_context(cafile=ca)
context.set_alpn_protocols(['h2'])
if identity: context.load_cert_chain(*identity)
try:
    with socket.create_connection(('127.0.0.1', port), 10) as plain, context.wrap_socket(plain, server_hostname='127.0.0.1') as tls:
        print('served' if tls.recv(1) else 'closed')
except (ssl.SSLError, OSError) as error:
    print('refused:', error)
";

fn connect(deployment: &Deployment, identity: Option<(&Path, &Path)>) -> String {
    let mut command = Command::new("python3");
    command.args(["-c", PEER, &deployment.ingest_port().to_string()]).arg(deployment.ca());
    if let Some((certificate, key)) = identity {
        command.arg(certificate).arg(key);
    }
    text(&command.output().unwrap())
}

/// Writes a certificate for this agent's key and name, as this CA issues it at a time.
fn issue(pki: &Path, enrollment: &Enrollment, at: SystemTime, to: &Path) {
    let control = tempfile::tempdir().unwrap();
    let control = Control::open(control.path()).unwrap();
    let pki = Pki::open(pki, "edgetrail.internal".parse().unwrap(), &[], control.revoked()).unwrap();
    let key = rcgen::KeyPair::try_from(enrollment.tls.key.secret_der()).unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let request = pki.authority().check_request(request.der()).unwrap();
    let holder = tls::identity_of(&enrollment.tls.chain[0]).unwrap();
    let chain = pki.authority().issue_agent(&request, &holder, at).unwrap();
    let pem: Vec<String> = chain.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect();
    fs::write(to, pem.concat()).unwrap();
}

fn pem(label: &str, der: &[u8]) -> String {
    use std::io::Write;
    use std::process::Stdio;
    let mut base64 = Command::new("base64").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    base64.stdin.take().unwrap().write_all(der).unwrap();
    let output = base64.wait_with_output().unwrap();
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", String::from_utf8(output.stdout).unwrap())
}

/// How many refusals the collector's log explains.
fn told(deployment: &Deployment) -> usize {
    let explains =
        |line: &&str| line.contains("connection refused") && line.contains("address=127.0.0.1:") && line.contains("join again");
    deployment.collector_printed().lines().filter(explains).count()
}

#[test]
fn a_foreign_expired_or_absent_certificate_gets_no_handshake() {
    let deployment = Deployment::with_one_agent();
    let (state, dir) = (deployment.agent_state(0), tempfile::tempdir().unwrap());
    let enrollment = Enrollment::load(&state).unwrap().unwrap();
    let key = dir.path().join("agent.key");
    fs::write(&key, pem("PRIVATE KEY", enrollment.tls.key.secret_der())).unwrap();
    let now = SystemTime::now();
    // The CA's own files, in a copy: the collector holds the others.
    let (own, foreign) = (dir.path().join("own"), dir.path().join("foreign"));
    fs::create_dir(&own).unwrap();
    for entry in fs::read_dir(deployment.collector_state().join("pki")).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, own.join(path.file_name().unwrap())).unwrap();
    }
    let issued = |name: &str, pki: &Path, at: SystemTime| {
        let path = dir.path().join(name);
        issue(pki, &enrollment, at, &path);
        path
    };
    let valid = issued("valid.pem", &own, now);
    assert_eq!(connect(&deployment, Some((&valid, &key))).trim(), "served", "the test's own peer works");

    let expired = issued("expired.pem", &own, now - Duration::from_secs(60 * 24 * 3600));
    let stranger = issued("foreign.pem", &foreign, now);
    let garbage = dir.path().join("garbage.pem");
    let self_signed = rcgen::generate_simple_self_signed(vec!["agent".to_owned()]).unwrap();
    fs::write(&garbage, self_signed.cert.pem()).unwrap();
    let garbage_key = dir.path().join("garbage.key");
    fs::write(&garbage_key, self_signed.signing_key.serialize_pem()).unwrap();
    for (what, identity) in [
        ("no certificate", None),
        ("an expired one", Some((&*expired, &*key))),
        ("another CA's", Some((&*stranger, &*key))),
        ("a self-signed one", Some((&*garbage, &*garbage_key))),
    ] {
        let before = told(&deployment);
        // The operator is told who came, why it was refused and what helps; of many at a time, of one.
        wait::until(&format!("the refusal of {what} in the log"), Duration::from_secs(20), || {
            let said = connect(&deployment, identity);
            assert!(said.starts_with("refused:") && said.contains("alert"), "{what}: {said}");
            (told(&deployment) > before).then_some(())
        });
    }
    post_one(deployment.socket(), &json!({"eventSource": "tls.example", "eventName": "StillServed"}));
}
