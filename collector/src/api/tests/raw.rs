//! Requests as bytes on a TLS connection, signed by the signer of AWS's own SDK or by nobody.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bench::{Bench, REGION};
use crate::control::AccessKey;

type Tls = tokio_rustls::client::TlsStream<TcpStream>;

pub(super) async fn connect(bench: &Bench) -> Tls {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(bench.dir.path().join("pki/ca.pem")).unwrap();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(bench.address).await.unwrap();
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

/// Sends one request as it stands; the status and the body.
pub(super) async fn raw(bench: &Bench, request: &[u8]) -> (u16, String) {
    let mut stream = connect(bench).await;
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let _closed_without_notify = read.expect("an answer, and the connection's end");
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}

/// Who signs, and when.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    id: String,
    secret: String,
    age: Duration,
}

impl Signed {
    pub(super) fn by(key: &AccessKey) -> Self {
        Self { id: key.id.clone(), secret: key.secret.clone(), age: Duration::ZERO }
    }

    /// With a secret that is not the key's.
    pub(super) fn wrongly(key: &AccessKey) -> Self {
        Self { secret: "wrong".to_owned(), ..Self::by(key) }
    }

    pub(super) fn ago(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// A CloudTrail call: the status and the answer.
    pub(super) async fn call(&self, bench: &Bench, target: &str, body: &str) -> (u16, Value) {
        let headers = [("host", "localhost"), ("x-amz-target", target)];
        let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\nx-amz-target: {target}\r\n");
        let (status, body) = self.send(bench, "cloudtrail", "POST", "https://localhost/", &headers, &head, body).await;
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// A GET of the S3 face.
    pub(super) async fn get(&self, bench: &Bench, host: &str, path: &str) -> (u16, String) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n");
        self.send(bench, "s3", "GET", &format!("https://{host}{path}"), &[("host", host)], &head, "").await
    }

    #[expect(clippy::too_many_arguments, reason = "a request has as many parts")]
    async fn send(
        &self,
        bench: &Bench,
        service: &str,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        head: &str,
        body: &str,
    ) -> (u16, String) {
        let identity = Credentials::from_keys(&self.id, &self.secret, None).into();
        let mut settings = SigningSettings::default();
        if service == "s3" {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(service)
            .time(SystemTime::now() - self.age)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let signable = SignableRequest::new(method, uri, headers.iter().copied(), SignableBody::Bytes(body.as_bytes())).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let mut request = format!("{head}connection: close\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in instructions.headers() {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        raw(bench, format!("{request}\r\n{body}").as_bytes()).await
    }
}
