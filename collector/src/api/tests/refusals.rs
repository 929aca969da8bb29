//! What no SDK sends: raw requests, silence, too much.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::bench::{Bench, REGION};
use crate::history::{Attribute, Query};

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(bench: &Bench) -> Tls {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(bench.dir.path().join("pki/ca.pem")).unwrap();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(bench.address).await.unwrap();
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

/// Sends one request as it stands; the status and the body.
async fn raw(bench: &Bench, request: &[u8]) -> (u16, String) {
    let mut stream = connect(bench).await;
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let _closed_without_notify = read.expect("an answer, and the connection's end");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// A signed CloudTrail call.
async fn call(bench: &Bench, target: &str, body: &str, age: Duration) -> (u16, Value) {
    let identity = Credentials::from_keys(&bench.key.id, &bench.key.secret, None).into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("cloudtrail")
        .time(std::time::SystemTime::now() - age)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let headers = [("host", "localhost"), ("x-amz-target", target)];
    let signable =
        SignableRequest::new("POST", "https://localhost/", headers.into_iter(), SignableBody::Bytes(body.as_bytes())).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let mut request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: {target}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in instructions.headers() {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let (status, body) = raw(bench, format!("{request}\r\n{body}").as_bytes()).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_refused_in_its_protocol() {
    let bench = Bench::start().await;
    for (target, body, code) in [
        ("CloudTrail_20131101.DropTables", "{}", "UnknownOperationException"),
        ("", "{}", "UnknownOperationException"),
        ("CloudTrail_20131101.CreateTrail", "{}", "UnsupportedOperationException"),
        ("CloudTrail_20131101.GetTrail", "[]", "SerializationException"),
        ("CloudTrail_20131101.GetTrail", "{", "SerializationException"),
        ("CloudTrail_20131101.GetTrail", r#"{"Name":7}"#, "SerializationException"),
        ("CloudTrail_20131101.GetTrail", r#"{"Name":null}"#, "ValidationException"),
        ("CloudTrail_20131101.LookupEvents", r#"{"StartTime":"yesterday"}"#, "SerializationException"),
    ] {
        let (status, answer) = call(&bench, target, body, Duration::ZERO).await;
        assert_eq!((status, &answer["__type"]), (400, &code.into()), "{target} {body}: {answer}");
    }
    let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
    let (_, answer) = call(&bench, "CloudTrail_20131101.GetTrail", &format!(r#"{{"Name":{deep}}}"#), Duration::ZERO).await;
    assert_eq!(answer["__type"], "SerializationException");
    let (status, answer) = call(&bench, "CloudTrail_20131101.GetTrail", &" ".repeat(300_000), Duration::ZERO).await;
    assert_eq!((status, &answer["__type"]), (413, &"RequestEntityTooLargeException".into()));
    let (_, answer) = call(&bench, "CloudTrail_20131101.ListTrails", "", Duration::from_secs(20 * 60)).await;
    assert_eq!(answer["__type"], "RequestExpired");
    let (status, answer) = call(&bench, "CloudTrail_20131101.ListTrails", "", Duration::ZERO).await;
    assert_eq!(status, 200, "{answer}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_is_refused_in_the_protocol_it_speaks() {
    let bench = Bench::start().await;
    let ending = "\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let (status, body) = raw(&bench, format!("GET /healthz HTTP/1.1{ending}").as_bytes()).await;
    assert_eq!((status, body.as_str()), (200, "ok\n"));
    let (status, body) = raw(&bench, format!("GET /edgetrail/key HTTP/1.1{ending}").as_bytes()).await;
    assert!(status == 403 && body.contains("<Code>AccessDenied</Code>"), "{body}");
    let (status, body) = raw(&bench, format!("POST / HTTP/1.1{ending}").as_bytes()).await;
    assert!(status == 403 && body.contains("<Code>MissingAuthenticationToken</Code>"), "{body}");
    let request = format!("POST / HTTP/1.1\r\nx-amz-target: CloudTrail_20131101.StopLogging{ending}");
    let (status, body) = raw(&bench, request.as_bytes()).await;
    assert!(status == 400 && body.contains(r#""__type":"MissingAuthenticationToken""#), "{body}");
    let (status, _) = raw(&bench, b"nonsense\r\n\r\n").await;
    assert_eq!(status, 400);

    // Refused calls are recorded as nobody's, in the home account and region.
    let query = || Query::new(super::bench::ACCOUNT, REGION, vec![(Attribute::EventName, "StopLogging".to_owned())]);
    let recorded = async {
        loop {
            if let Some(event) = bench.history.lookup(query()).await.unwrap().events.pop() {
                return event;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let event = tokio::time::timeout(Duration::from_secs(10), recorded).await.unwrap();
    let record: Value = serde_json::from_slice(&event.record).unwrap();
    assert_eq!(record["errorCode"], "MissingAuthenticationToken");
    assert_eq!(record["userIdentity"]["type"], "Unknown");
    bench.stop().await;
}

/// `bucket.host`, as SDKs address a bucket by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_found_in_the_host() {
    let bench = Bench::start().await;
    let identity = Credentials::from_keys(&bench.key.id, &bench.key.secret, None).into();
    let mut settings = SigningSettings::default();
    settings.payload_checksum_kind = aws_sigv4::http_request::PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("s3")
        .time(std::time::SystemTime::now())
        .settings(settings)
        .build()
        .unwrap()
        .into();
    for (host, path, expected) in [
        ("edgetrail.localhost", "/?location", "<LocationConstraint"),
        ("edgetrail.localhost", "/absent", "<Code>NoSuchKey</Code>"),
        ("localhost", "/edgetrail?location", "<LocationConstraint"),
        ("elsewhere.localhost", "/?location", "<ListAllMyBucketsResult"),
    ] {
        let uri = format!("https://{host}{path}");
        let signable = SignableRequest::new("GET", uri.as_str(), [("host", host)].into_iter(), SignableBody::Bytes(b"")).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in instructions.headers() {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let (_, body) = raw(&bench, format!("{request}\r\n").as_bytes()).await;
        assert!(body.contains(expected), "{host}{path}: {body}");
    }
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_peers_hold_nobody_up() {
    let bench = Bench::start().await;
    let mut silent = Vec::new();
    // More than one address may have unfinished: those beyond are reset, and the others wait in silence.
    for _ in 0..100 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(bench.address).await.unwrap());
    }
    let half_open = connect(&bench).await;
    let (status, _) = call(&bench, "CloudTrail_20131101.ListTrails", "", Duration::ZERO).await;
    assert_eq!(status, 200);
    drop(half_open);
    bench.stop().await;
}
