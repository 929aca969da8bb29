//! What a record is told of heads: the answer's, and what kind of body follows.

use http::Response;
use http::header::{self, HeaderMap, HeaderName};
use hyper::body::Incoming;

use super::exchange::{Answered, request_id, text};
use crate::sources::percent;

/// Longest text of an answer's head that is kept, bytes.
const ANSWER_TEXT_BYTES_MAX: usize = 256;

pub(super) fn answered(response: &Response<Incoming>) -> Answered {
    let headers = response.headers();
    Answered {
        status: response.status().as_u16(),
        content_type: text(headers, &header::CONTENT_TYPE).map(bounded),
        bytes: declared(headers),
        request_id: request_id(headers).map(bounded),
        grpc: grpc_status(headers),
        body: None,
        tunnel: None,
    }
}

/// The status of a gRPC call, in its head or its trailers.
pub(super) fn grpc_status(headers: &HeaderMap) -> Option<(u32, Option<String>)> {
    let status = headers.get(HeaderName::from_static("grpc-status"))?.to_str().ok()?.parse().ok()?;
    let message = text(headers, &HeaderName::from_static("grpc-message"));
    Some((status, message.map(|message| bounded(percent::decoded(&message).into_owned()))))
}

/// What of an answer's head goes into a record: no place was reserved for more.
fn bounded(text: String) -> String {
    if text.len() <= ANSWER_TEXT_BYTES_MAX { text } else { text.chars().take(ANSWER_TEXT_BYTES_MAX / 4).collect() }
}

pub(super) fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// `application/json` and what is built on it.
pub fn is_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || kind.starts_with("application/") && kind.ends_with("+json")
}

pub fn is_form(kind: &str) -> bool {
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}
