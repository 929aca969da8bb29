//! Every reason for which a request is refused, each on its own; then agreement with two signers that are not ours.

use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use super::{Claim, SigV4Error};

const KEY: &str = "AKIDEXAMPLE1234567890";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2023-11-14T22:13:20Z.
const NOW: u64 = 1_700_000_000;

fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}

/// A request as the SDKs for Rust sign it.
fn signed(service: &str, method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8], settings: SigningSettings) -> Parts {
    let identity = Credentials::from_keys(KEY, SECRET, None).into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("dc-tokyo-1")
        .name(service)
        .time(UNIX_EPOCH + Duration::from_secs(NOW))
        .settings(settings)
        .build()
        .unwrap();
    let signable = SignableRequest::new(method, uri, headers.iter().copied(), SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(signable, &params.into()).unwrap().into_parts();
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(()).unwrap();
    instructions.apply_to_request_http1x(&mut request);
    request.into_parts().0
}

fn lookup_request() -> (Parts, &'static [u8]) {
    let body = br#"{"MaxResults":5}"#;
    let headers = [
        ("host", "localhost:8443"),
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents"),
    ];
    (signed("cloudtrail", "POST", "https://localhost:8443/", &headers, body, settings("cloudtrail")), body)
}

fn verify(head: &Parts, body: &[u8]) -> Result<(), SigV4Error> {
    Claim::parse(head)?.verify(head, body, SECRET, NOW)
}

/// The Authorization header with one text exchanged.
fn reauthorize(head: &mut Parts, from: &str, to: &str) {
    let value = head.headers.get("authorization").unwrap().to_str().unwrap();
    assert!(value.contains(from), "{value}");
    let changed = HeaderValue::from_str(&value.replace(from, to)).unwrap();
    head.headers.insert("authorization", changed);
}

#[test]
fn a_good_request_is_taken() {
    let (head, body) = lookup_request();
    assert_eq!(verify(&head, body), Ok(()));
    let claim = Claim::parse(&head).unwrap();
    assert_eq!((claim.access_key_id.as_str(), claim.scope.region.as_str()), (KEY, "dc-tokyo-1"));
    assert_eq!(claim.scope.service, "cloudtrail");
}

#[test]
fn another_body_is_refused() {
    let (head, _) = lookup_request();
    assert_eq!(verify(&head, br#"{"MaxResults":6}"#), Err(SigV4Error::Mismatch));
}

#[test]
fn a_stated_payload_hash_must_be_that_of_the_body() {
    let head = signed("s3", "PUT", "https://h/b/k", &[("host", "h")], b"one", settings("s3"));
    assert_eq!(verify(&head, b"one"), Ok(()));
    assert_eq!(verify(&head, b"two"), Err(SigV4Error::PayloadMismatch));
}

#[test]
fn the_wrong_secret_is_refused() {
    let (head, body) = lookup_request();
    let claim = Claim::parse(&head).unwrap();
    assert_eq!(claim.verify(&head, body, "another", NOW), Err(SigV4Error::Mismatch));
}

#[test]
fn tampered_method_path_query_and_headers_are_refused() {
    type Change = fn(&mut Parts);
    let tamper: [(&str, Change); 6] = [
        ("method", |head| head.method = http::Method::PUT),
        ("path", |head| head.uri = "https://localhost:8443/x".parse().unwrap()),
        ("query", |head| head.uri = "https://localhost:8443/?x=1".parse().unwrap()),
        ("target", |head| {
            head.headers.insert("x-amz-target", HeaderValue::from_static("CloudTrail_20131101.StopLogging"));
        }),
        ("host", |head| {
            head.headers.insert("host", HeaderValue::from_static("other:8443"));
        }),
        ("second value", |head| {
            head.headers.append("x-amz-target", HeaderValue::from_static("CloudTrail_20131101.StopLogging"));
        }),
    ];
    for (what, change) in tamper {
        let (mut head, body) = lookup_request();
        change(&mut head);
        assert_eq!(verify(&head, body), Err(SigV4Error::Mismatch), "{what}");
    }
}

#[test]
fn host_and_every_amz_header_must_be_signed() {
    let (mut head, body) = lookup_request();
    reauthorize(&mut head, "host;", "");
    assert_eq!(verify(&head, body), Err(SigV4Error::UnsignedHeader("host".to_owned())));

    let (mut head, body) = lookup_request();
    reauthorize(&mut head, ";x-amz-target", "");
    assert_eq!(verify(&head, body), Err(SigV4Error::UnsignedHeader("x-amz-target".to_owned())));

    let (mut head, body) = lookup_request();
    reauthorize(&mut head, ";x-amz-date", "");
    assert_eq!(verify(&head, body), Err(SigV4Error::UnsignedHeader("x-amz-date".to_owned())));

    let (mut head, body) = lookup_request();
    head.headers.insert("x-amz-added-later", HeaderValue::from_static("1"));
    assert_eq!(verify(&head, body), Err(SigV4Error::UnsignedHeader("x-amz-added-later".to_owned())));

    let mut head = signed("s3", "GET", "https://h/b/k", &[("host", "h")], b"", settings("s3"));
    reauthorize(&mut head, "x-amz-content-sha256;", "");
    assert_eq!(verify(&head, b""), Err(SigV4Error::UnsignedHeader("x-amz-content-sha256".to_owned())));
}

#[test]
fn a_signed_header_that_is_absent_is_refused() {
    let (mut head, body) = lookup_request();
    head.headers.remove("content-type");
    assert!(matches!(verify(&head, body), Err(SigV4Error::Malformed(_))));
}

#[test]
fn a_changed_scope_is_refused() {
    for (from, to) in [("dc-tokyo-1", "dc-osaka-1"), ("/cloudtrail/", "/sts/")] {
        let (mut head, body) = lookup_request();
        reauthorize(&mut head, from, to);
        assert_eq!(verify(&head, body), Err(SigV4Error::Mismatch), "{to}");
    }
    for (from, to) in [("20231114/", "20231113/"), ("aws4_request", "aws5_request"), ("dc-tokyo-1", "DC")] {
        let (mut head, body) = lookup_request();
        reauthorize(&mut head, from, to);
        assert!(matches!(verify(&head, body), Err(SigV4Error::Scope(_))), "{to}");
    }
}

#[test]
fn a_skewed_date_is_refused() {
    let (head, body) = lookup_request();
    let claim = Claim::parse(&head).unwrap();
    let at = |now| claim.verify(&head, body, SECRET, now);
    assert_eq!(at(NOW + super::PAST_SECONDS_MAX), Ok(()));
    assert_eq!(at(NOW + super::PAST_SECONDS_MAX + 1), Err(SigV4Error::Expired));
    assert_eq!(at(NOW - super::FUTURE_SECONDS_MAX), Ok(()));
    assert_eq!(at(NOW - super::FUTURE_SECONDS_MAX - 1), Err(SigV4Error::NotYetCurrent));
}

#[test]
fn a_changed_date_is_refused() {
    let (mut head, body) = lookup_request();
    head.headers.insert("x-amz-date", HeaderValue::from_static("20231114T221321Z"));
    assert_eq!(verify(&head, body), Err(SigV4Error::Mismatch));
    head.headers.append("x-amz-date", HeaderValue::from_static("20231114T221320Z"));
    assert!(matches!(verify(&head, body), Err(SigV4Error::Malformed(_))));
    for bad in ["", "20231114", "20231399T221320Z", "2023-11-14T22:13Z"] {
        head.headers.insert("x-amz-date", HeaderValue::from_str(bad).unwrap());
        assert!(matches!(verify(&head, body), Err(SigV4Error::Malformed(_))), "{bad}");
    }
}

#[test]
fn absent_and_incomplete_authorization_is_refused() {
    let (mut head, body) = lookup_request();
    head.headers.remove("authorization");
    assert_eq!(verify(&head, body), Err(SigV4Error::Missing));
    for bad in [
        "Basic Zm9vOmJhcg==",
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=a/20231114/r/s/aws4_request",
        "AWS4-HMAC-SHA256 Credential=a/20231114/r/s/aws4_request, SignedHeaders=host",
        "AWS4-HMAC-SHA256 Credential=a/20231114/r/s, SignedHeaders=host, Signature=00",
        "AWS4-HMAC-SHA256 Credential=a/20231114/r/s/aws4_request, SignedHeaders=host, Signature=zz",
        "AWS4-HMAC-SHA256 Credential=a/20231114/r/s/aws4_request, SignedHeaders=x;host, Signature=00",
    ] {
        head.headers.insert("authorization", HeaderValue::from_static(bad));
        assert!(matches!(verify(&head, body), Err(SigV4Error::Malformed(_))), "{bad}");
    }
}

#[test]
fn session_tokens_and_chunked_payloads_are_refused_cleanly() {
    let (mut head, body) = lookup_request();
    head.headers.insert("x-amz-security-token", HeaderValue::from_static("t"));
    assert_eq!(verify(&head, body), Err(SigV4Error::SessionToken));

    let (mut head, body) = lookup_request();
    head.headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    assert_eq!(verify(&head, body), Err(SigV4Error::UnsignedPayload));

    let mut head = signed("s3", "PUT", "https://h/b/k", &[("host", "h")], b"", settings("s3"));
    head.headers.insert("x-amz-content-sha256", HeaderValue::from_static("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"));
    assert_eq!(verify(&head, b""), Err(SigV4Error::StreamingPayload));
}

#[test]
fn a_presigned_url_lives_as_long_as_it_says_and_for_s3_only() {
    let presign = |service: &str| {
        let mut settings = settings(service);
        settings.signature_location = SignatureLocation::QueryParams;
        settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
        settings.expires_in = Some(Duration::from_secs(60));
        let identity = Credentials::from_keys(KEY, SECRET, None).into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("dc-tokyo-1")
            .name(service)
            .time(UNIX_EPOCH + Duration::from_secs(NOW))
            .settings(settings)
            .build()
            .unwrap();
        let uri = "https://h/b/a%20key?versionId=a%2Fb";
        let signable = SignableRequest::new("GET", uri, [("host", "h")].into_iter(), SignableBody::UnsignedPayload).unwrap();
        let mut request = Request::get(uri).header("host", "h").body(()).unwrap();
        sign(signable, &params.into()).unwrap().into_parts().0.apply_to_request_http1x(&mut request);
        request.into_parts().0
    };
    let head = presign("s3");
    let claim = Claim::parse(&head).unwrap();
    assert_eq!(claim.verify(&head, b"", SECRET, NOW + 60), Ok(()));
    assert_eq!(claim.verify(&head, b"", SECRET, NOW + 61), Err(SigV4Error::PresignedExpired));
    assert_eq!(claim.verify(&head, b"", "another", NOW), Err(SigV4Error::Mismatch));

    let mut tampered = presign("s3");
    let uri = tampered.uri.to_string().replace("a%20key", "b%20key");
    tampered.uri = uri.parse().unwrap();
    assert_eq!(verify(&tampered, b""), Err(SigV4Error::Mismatch));
    let uri = tampered.uri.to_string().replace("b%20key", "a%20key").replace("Expires=60", "Expires=600000");
    tampered.uri = uri.parse().unwrap();
    assert_eq!(verify(&tampered, b""), Err(SigV4Error::Mismatch));

    assert_eq!(verify(&presign("cloudtrail"), b""), Err(SigV4Error::Missing));
}

#[test]
fn http2_authority_is_the_host() {
    let (mut head, body) = lookup_request();
    head.headers.remove("host");
    assert_eq!(verify(&head, body), Ok(()), "the URI's authority stands for it");
}

fn wire_text() -> impl Strategy<Value = String> {
    // Percent-encoded as a client sends it: unreserved bare, the rest encoded.
    proptest::string::string_regex("[a-zA-Z0-9_.~-]{0,6}|é ?|[ -~]{0,8}")
        .unwrap()
        .prop_map(|text| crate::percent::encode(text.as_bytes(), crate::percent::Slash::Encode))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_rust_sdk_signer(
        s3 in any::<bool>(),
        path in proptest::collection::vec(wire_text(), 0..4),
        query in proptest::collection::vec((wire_text(), wire_text()), 0..5),
        header in "[!-~]([ -~]{0,20}[!-~])?",
        body in proptest::collection::vec(any::<u8>(), 0..64),
        flip in any::<prop::sample::Index>(),
    ) {
        let service = if s3 { "s3" } else { "cloudtrail" };
        let query = query.iter().filter(|(name, _)| !name.is_empty()).map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        let mut uri = format!("https://localhost:8443/{}", path.join("/"));
        if !query.is_empty() {
            uri = format!("{uri}?{query}");
        }
        let head = signed(service, "POST", &uri, &[("host", "localhost:8443"), ("x-amz-meta-note", &header)], &body, settings(service));
        prop_assert_eq!(verify(&head, &body), Ok(()), "{}", uri);

        // Any one changed bit of the body is seen.
        if !body.is_empty() {
            let mut changed = body.clone();
            *flip.get_mut(&mut changed) ^= 1;
            prop_assert!(verify(&head, &changed).is_err());
        }
    }

    #[test]
    fn arbitrary_heads_never_panic(authorization in "[ -~]{0,200}", date in "[ -~]{0,20}", uri in "/[a-zA-Z0-9%&=?;+-]{0,60}") {
        let request = Request::get(uri).header("authorization", authorization).header("x-amz-date", date).header("host", "h");
        if let Ok(request) = request.body(()) {
            let head = request.into_parts().0;
            if let Ok(claim) = Claim::parse(&head) {
                let _verdict = claim.verify(&head, b"", SECRET, NOW);
            }
            super::service_of(&head);
        }
    }
}

#[derive(serde::Deserialize)]
struct Botocore {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: String,
    now: u64,
}

/// 400 random requests signed by botocore itself, header and presigned.
#[test]
fn agrees_with_botocore() {
    if std::env::var_os("EDGETRAIL_SKIP_AWSCLI").is_some() {
        eprintln!("SKIPPED by EDGETRAIL_SKIP_AWSCLI: signatures are not compared with botocore's");
        return;
    }
    let mut child = Command::new("python3")
        .args(["-c", include_str!("botocore_sign.py"), KEY, SECRET, "400"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 with botocore (set EDGETRAIL_SKIP_AWSCLI=1 to go without)");
    let output = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    assert!(child.wait().unwrap().success(), "python3 -c botocore_sign.py failed: is botocore installed?");
    let requests: Vec<Botocore> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(requests.len(), 400);
    for request in requests {
        let mut built = Request::builder().method(request.method.as_str()).uri(&request.url);
        for (name, value) in &request.headers {
            built = built.header(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
        }
        let head = built.body(()).unwrap().into_parts().0;
        let verdict = Claim::parse(&head).and_then(|claim| claim.verify(&head, request.body.as_bytes(), SECRET, request.now));
        assert_eq!(verdict, Ok(()), "{} {} {:?}", request.method, request.url, request.headers);
        let forged = Claim::parse(&head).and_then(|claim| claim.verify(&head, request.body.as_bytes(), "another", request.now));
        assert_eq!(forged, Err(SigV4Error::Mismatch));
    }
}
