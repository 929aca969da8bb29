//! A door over real sockets, with the test as its source.

use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;

use super::*;

/// Says the body's length, or why there is none.
struct Echo;

impl Answer for Echo {
    async fn answer(&self, request: Request<Incoming>, _: Caller, reader: &Reader) -> Reply {
        let encoding = request.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).map(str::to_owned);
        match reader.read(request.into_body(), encoding.as_deref()).await {
            Ok(body) => plain(StatusCode::OK, body.bytes.len().to_string()),
            Err(error) => plain(StatusCode::BAD_REQUEST, error.to_string()),
        }
    }
}

pub(crate) fn loopback() -> Vec<SocketAddr> {
    vec!["127.0.0.1:0".parse().unwrap()]
}

/// What a request is answered over plain HTTP: HTTP/2 where `is_h2`.
pub(crate) async fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
    is_h2: bool,
) -> (StatusCode, http::HeaderMap, Vec<u8>) {
    let client = Client::builder(TokioExecutor::new()).http2_only(is_h2).build_http::<Full<bytes::Bytes>>();
    let mut request = Request::post(format!("http://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
    let (head, body) = reply.into_parts();
    let collected = body.collect().await.unwrap();
    let mut headers = head.headers;
    headers.extend(collected.trailers().cloned().unwrap_or_default());
    (head.status, headers, collected.to_bytes().to_vec())
}

#[expect(clippy::disallowed_methods, reason = "the test owns the task and awaits it")]
async fn served(settings: Settings) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
    let listener = Listener::open(SourceName::Kubernetes, &settings).await.unwrap();
    let address = listener.addresses()[0];
    let stop = CancellationToken::new();
    (address, stop.clone(), tokio::spawn(listener.run(Echo, stop)))
}

#[tokio::test]
async fn both_versions_are_served_and_a_stop_ends_it() {
    let settings = Settings { listen: loopback(), connections_max: 4, body_bytes_max: 10, ..Settings::default() };
    let (address, stop, task) = served(settings).await;
    for is_h2 in [false, true] {
        let (status, _, body) = post(address, "/", &[], b"seven b".to_vec(), is_h2).await;
        assert_eq!((status, body.as_slice()), (StatusCode::OK, b"7".as_slice()));
        let (status, _, body) = post(address, "/", &[], vec![0; 11], is_h2).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(String::from_utf8(body).unwrap().contains("more than 10 bytes"));
    }
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test]
async fn without_the_token_nothing_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let settings =
        Settings { listen: loopback(), connections_max: 4, body_bytes_max: 10, token_file: Some(path), ..Settings::default() };
    let (address, _stop, _task) = served(settings).await;
    assert_eq!(post(address, "/", &[], vec![], false).await.0, StatusCode::UNAUTHORIZED);
    let headers = [("authorization", "Bearer 0123456789abcdef")];
    assert_eq!(post(address, "/", &headers, vec![], false).await.0, StatusCode::OK);
}

#[test]
fn what_others_reach_must_be_guarded() {
    let open = |address: &str| Settings { listen: vec![address.parse().unwrap()], ..Settings::default() };
    assert_eq!(open("127.0.0.1:1").trouble(), None);
    assert_eq!(open("[::1]:1").trouble(), None);
    let files = Settings { certificate: Some("c".into()), key: Some("k".into()), ..open("0.0.0.0:1") };
    assert!(open("0.0.0.0:1").trouble().unwrap().contains("not loopback"));
    assert!(files.trouble().unwrap().contains("token_file"));
    assert_eq!(Settings { token_file: Some("t".into()), ..files.clone() }.trouble(), None);
    assert_eq!(Settings { client_ca: Some("t".into()), ..files }.trouble(), None);
    let half = Settings { certificate: Some("c".into()), ..open("127.0.0.1:1") };
    assert!(half.trouble().unwrap().contains("both"));
}

/// A CA's files and certificates of it, as PEM.
pub(crate) struct Authority {
    key: rcgen::KeyPair,
    params: rcgen::CertificateParams,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { key, params, pem }
    }

    /// A certificate for `localhost` and its key.
    fn issue(&self) -> (String, String) {
        self.issue_to("localhost")
    }

    /// The same, with a name.
    pub(crate) fn issue_to(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = rcgen::Issuer::from_params(&self.params, &self.key);
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A connection over TLS to who has a certificate of `server`, with a certificate of one's own or without.
pub(crate) async fn connected(
    address: SocketAddr,
    server: &Authority,
    own: Option<(String, String)>,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
        }
    };
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.map_err(|it| it.to_string())
}

/// One request over TLS, with a certificate or without; the reply's first line, or why there is none.
async fn asked(address: SocketAddr, server: &Authority, own: Option<(String, String)>) -> Result<String, String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = connected(address, server, own).await?;
    let request = b"POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx";
    stream.write_all(request).await.map_err(|error| error.to_string())?;
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply).await;
    let text = String::from_utf8_lossy(&reply).lines().next().map(str::to_owned);
    text.ok_or_else(|| format!("{read:?}"))
}

#[tokio::test]
async fn over_https_only_those_come_in_whose_certificate_the_client_ca_signed() {
    let (server, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let (certificate, key) = server.issue();
    let https = Settings {
        listen: loopback(),
        connections_max: 4,
        body_bytes_max: 10,
        certificate: file("server.pem", &certificate),
        key: file("server.key", &key),
        ..Settings::default()
    };
    let (address, _stop, _task) = served(https.clone()).await;
    assert_eq!(asked(address, &server, None).await.unwrap(), "HTTP/1.1 200 OK");
    assert!(asked(address, &strangers, None).await.is_err(), "a client knows its server");
    let mutual = Settings { client_ca: file("clients.pem", &clients.pem), ..https };
    let (address, _stop, _task) = served(mutual).await;
    assert_eq!(asked(address, &server, Some(clients.issue())).await.unwrap(), "HTTP/1.1 200 OK");
    assert!(asked(address, &server, None).await.is_err());
    assert!(asked(address, &server, Some(strangers.issue())).await.is_err());
}
