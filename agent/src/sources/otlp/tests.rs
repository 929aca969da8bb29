//! The receiver over a real socket, with the test as its pipeline.

use bytes::Bytes;
use prost::Message as _;

use super::message::{Any, AnyValue, LogRecord, RetryInfo, Status};
use super::*;
use crate::observation::{self, Outcome, Outlet, Payload};
use crate::sources::listener::tests::{loopback, post};

struct Served {
    address: SocketAddr,
    outlet: Outlet,
    _stop: tokio_util::sync::DropGuard,
}

#[expect(clippy::disallowed_methods, reason = "the task ends with the test")]
async fn served() -> Served {
    let config = Config { listen: loopback(), body_max: Size(1024 * 1024), ..Config::default() };
    let source = OtlpSource::open(&config).await.unwrap();
    let address = source.listener.addresses()[0];
    let (intake, outlet) = observation::intake();
    let stop = CancellationToken::new();
    drop(tokio::spawn(source.run(intake, stop.clone())));
    Served { address, outlet, _stop: stop.drop_guard() }
}

fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// A request of one record.
fn request() -> Vec<u8> {
    let body = Some(AnyValue { value: Some(Any::String("hello".to_owned())) });
    let record = LogRecord { event_name: "user.login".to_owned(), body, ..LogRecord::default() };
    field(1, &field(2, &field(2, &record.encode_to_vec())))
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

impl Served {
    /// Sends a request and answers its one observation; gives what was read of it.
    async fn answered(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        outcome: Outcome,
    ) -> (Entry, StatusCode, HeaderMap, Vec<u8>) {
        let is_h2 = headers.iter().any(|(_, value)| value.starts_with("application/grpc"));
        let reply = post(self.address, path, headers, body, is_h2);
        let pipeline = async {
            let [observation] = <[_; 1]>::try_from(self.outlet.recv().await.unwrap()).unwrap();
            let Payload::Log(log) = &observation.payload else { panic!("not a log") };
            let entry = log.entry().unwrap();
            // Nothing is answered before the pipeline says so.
            tokio::task::yield_now().await;
            observation.answer.unwrap().0.send(outcome).unwrap();
            entry
        };
        let (entry, (status, headers, body)) = tokio::join!(pipeline, reply);
        (entry, status, headers, body)
    }
}

/// Path, headers, body, and the body of the answer.
type Case<'a> = (&'a str, Vec<(&'a str, &'a str)>, Vec<u8>, &'a [u8]);

fn committed() -> Outcome {
    Outcome::Committed { event_ids: vec![] }
}

#[tokio::test]
async fn every_wire_and_compression_is_taken_and_answered_in_kind() {
    let mut served = served().await;
    let (protobuf, json) = (
        request(),
        br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"user.login","body":{"stringValue":"hello"}}]}]}]}"#
            .to_vec(),
    );
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 3).unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let cases: Vec<Case<'_>> = vec![
        (HTTP_PATH, vec![("content-type", "application/x-protobuf")], protobuf.clone(), b""),
        (HTTP_PATH, vec![("content-type", "application/json; charset=utf-8")], json.clone(), b"{}"),
        (HTTP_PATH, vec![("content-type", "application/json"), ("content-encoding", "gzip")], gzip(&json), b"{}"),
        (HTTP_PATH, vec![("content-type", "application/x-protobuf"), ("content-encoding", "zstd")], zstd(&protobuf), b""),
        (GRPC_PATH, vec![("content-type", "application/grpc")], framed(0, &protobuf), &[0; 5]),
        (GRPC_PATH, vec![("content-type", "application/grpc"), ("grpc-encoding", "gzip")], framed(1, &gzip(&protobuf)), &[0; 5]),
        (
            GRPC_PATH,
            vec![("content-type", "application/grpc+proto"), ("grpc-encoding", "zstd")],
            framed(1, &zstd(&protobuf)),
            &[0; 5],
        ),
    ];
    for (path, headers, body, expected) in cases {
        let (entry, status, replied, body) = served.answered(path, &headers, body, committed()).await;
        assert_eq!((entry.event_name.as_str(), entry.body.as_str()), ("user.login", Some("hello")));
        assert_eq!((status, body.as_slice()), (StatusCode::OK, expected), "{headers:?}");
        assert_eq!(replied["content-type"].to_str().unwrap().split([';', '+']).next(), headers[0].1.split([';', '+']).next());
        if path == GRPC_PATH {
            assert_eq!(replied["grpc-status"], "0");
        }
    }
}

#[tokio::test]
async fn a_full_buffer_is_said_with_a_hint_and_never_a_partial_success() {
    let mut served = served().await;
    let full = || Outcome::Unavailable { retry_after_s: 9 };
    let (_, status, headers, body) =
        served.answered(HTTP_PATH, &[("content-type", "application/x-protobuf")], request(), full()).await;
    assert_eq!((status, headers["retry-after"].to_str().unwrap()), (StatusCode::SERVICE_UNAVAILABLE, "9"));
    assert_eq!(Status::decode(Bytes::from(body)).unwrap().code, 14);
    let (_, status, headers, body) =
        served.answered(GRPC_PATH, &[("content-type", "application/grpc")], framed(0, &request()), full()).await;
    assert_eq!((status, body.len(), headers["grpc-status"].to_str().unwrap()), (StatusCode::OK, 0, "14"));
    use base64::Engine as _;
    let details = base64::engine::general_purpose::STANDARD_NO_PAD.decode(&headers["grpc-status-details-bin"]).unwrap();
    let detail = Status::decode(Bytes::from(details)).unwrap().details.remove(0);
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.RetryInfo");
    assert_eq!(RetryInfo::decode(Bytes::from(detail.value)).unwrap().retry_delay.unwrap().seconds, 9);
}

#[tokio::test]
async fn what_can_not_be_taken_is_refused_for_good_and_says_why() {
    let served = served().await;
    let kind = |kind: &'static str| vec![("content-type", kind)];
    for (path, headers, body, status) in [
        (HTTP_PATH, kind("application/x-protobuf"), b"\x0a\xff".to_vec(), StatusCode::BAD_REQUEST),
        (HTTP_PATH, kind("application/json"), b"{".to_vec(), StatusCode::BAD_REQUEST),
        (HTTP_PATH, kind("text/plain"), vec![], StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("/v1/traces", kind("application/json"), vec![], StatusCode::NOT_FOUND),
        (HTTP_PATH, kind("application/json"), vec![b' '; 2 * 1024 * 1024], StatusCode::PAYLOAD_TOO_LARGE),
        (HTTP_PATH, vec![("content-type", "application/json"), ("content-encoding", "br")], vec![], StatusCode::BAD_REQUEST),
    ] {
        let (found, _, reply) = post(served.address, path, &headers, body, false).await;
        assert_eq!(found, status, "{path} {headers:?} {}", String::from_utf8_lossy(&reply));
    }
    for (path, body, code) in [
        (GRPC_PATH, vec![], "3"),
        (GRPC_PATH, framed(0, b"\x0a\xff"), "3"),
        (GRPC_PATH, framed(7, b""), "3"),
        (GRPC_PATH, [framed(0, b""), vec![1]].concat(), "3"),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Export", framed(0, b""), "12"),
    ] {
        let (status, headers, _) = post(served.address, path, &kind("application/grpc"), body, true).await;
        assert_eq!((status, headers["grpc-status"].to_str().unwrap()), (StatusCode::OK, code), "{path}");
    }
}

#[tokio::test]
async fn a_request_of_no_records_is_taken() {
    let served = served().await;
    let (status, _, _) = post(served.address, HTTP_PATH, &[("content-type", "application/json")], b"{}".to_vec(), false).await;
    assert_eq!(status, StatusCode::OK);
}
