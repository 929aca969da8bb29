//! 12: nobody is talked down to an older TLS, by a client or by a server.
//!
//! The API alone speaks TLS 1.2 as well, since CloudTrail's clients may need it: what is signed there is signed by SigV4.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use edgetrail_link::tls;
use edgetrail_tests::deployment::Deployment;
use edgetrail_tests::posting::post_one;
use edgetrail_tests::{delivered, wait};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error, ProtocolVersion, SupportedProtocolVersion};
use serde_json::json;

use crate::hands::tls_of;
use crate::host::Host;
use crate::rogue::{Rogue, block_on};
use crate::servers::stolen_identity;

/// The version that was agreed on, or what came instead. With TLS 1.3 a refusal comes behind the handshake, so it reads on.
fn handshake(port: u16, config: Arc<rustls::ClientConfig>) -> Result<Option<ProtocolVersion>, std::io::Error> {
    let mut connection = rustls::ClientConnection::new(config, "127.0.0.1".try_into().unwrap()).unwrap();
    let mut tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut tcp)?;
    }
    connection.writer().flush()?;
    Ok(connection.protocol_version())
}

fn is_refused_for_its_version(outcome: Result<Option<ProtocolVersion>, std::io::Error>) -> bool {
    let Err(error) = outcome else { return false };
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    matches!(cause, Some(Error::AlertReceived(AlertDescription::ProtocolVersion)))
}

#[test]
fn t12_a_client_of_tls_1_2_gets_no_session_at_ingest_whatever_its_certificate() {
    let deployment = Deployment::with_one_agent();
    let rogue = block_on(Rogue::join(&deployment));
    let roots = tls::read_certificates(&deployment.ca()).unwrap();
    let of_agent = |version: &'static SupportedProtocolVersion| {
        let (chain, key) = (rogue.enrollment.tls.chain.clone(), rogue.enrollment.tls.key.clone_key());
        let mut store = rustls::RootCertStore::empty();
        roots.iter().for_each(|root| store.add(root.clone()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let mut config = builder.with_root_certificates(store).with_client_auth_cert(chain, key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    };
    let ingest = deployment.ingest_port();
    assert_eq!(handshake(ingest, of_agent(&TLS13)).unwrap(), Some(ProtocolVersion::TLSv1_3), "an agent's own");
    assert!(is_refused_for_its_version(handshake(ingest, of_agent(&TLS12))));
    assert!(is_refused_for_its_version(handshake(ingest, tls_of(&roots, &[&TLS12]))));
    for (version, agreed) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        assert_eq!(handshake(deployment.api_port(), tls_of(&roots, &[version])).unwrap(), Some(agreed));
    }
}

#[test]
fn t12_an_agent_sends_nothing_to_a_collector_of_tls_1_2_whatever_its_certificate() {
    let deployment = Deployment::with_one_agent();
    let tls::Identity { chain, key } = stolen_identity(&deployment);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS12]).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let (tried, agreed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, completed) = (Arc::clone(&tried), Arc::clone(&agreed));
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            let mut connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut tcp).is_ok() {}
            completed.fetch_add(usize::from(!connection.is_handshaking()), Ordering::Relaxed);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut host = Host::join(&deployment, port);
    post_one(&host.socket(), &json!({ "eventSource": "tests.example", "eventName": "NotForOldTls" }));
    wait::until("two attempts", Duration::from_secs(30), || (tried.load(Ordering::Relaxed) >= 2).then_some(()));
    assert_eq!(agreed.load(Ordering::Relaxed), 0, "the agent agreed on TLS 1.2");
    // The server is right but for its version: one of today gets everything.
    host.stop();
    host.start(deployment.ingest_port());
    wait::until("the event", Duration::from_secs(30), || {
        let records = delivered::records(&deployment.trail());
        records.iter().any(|(_, record)| record["eventName"] == "NotForOldTls").then_some(())
    });
}
