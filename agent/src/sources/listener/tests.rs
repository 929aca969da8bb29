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
