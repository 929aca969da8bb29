//! A refusal of a whole request, as clients of the service model read it: status, error type, message.

use bytes::Bytes;
use edgetrail_sigv4::SigV4Error;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::request::REQUEST_BYTES_MAX;
use crate::sources::api::reply::RETRY_AFTER_S;
use crate::sources::listener::BodyError;

/// Why nothing of a request was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    status: StatusCode,
    /// The error's type in the service model, or one common to all services.
    pub(super) code: &'static str,
    pub(super) message: String,
}

#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
}

impl Fault {
    /// The caller's fault.
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }

    pub(super) fn too_large() -> Self {
        let message = format!("the request has more than {REQUEST_BYTES_MAX} bytes: send its events in several");
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::new("RequestEntityTooLargeException", message) }
    }

    /// Worth another try: clients of AWS make it by themselves.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, ..Self::new("ServiceUnavailable", message) }
    }

    pub(super) fn of_body(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge { .. } => Self::too_large(),
            error if error.is_retryable() => Self::unavailable(error.to_string()),
            error => Self::new("SerializationException", error.to_string()),
        }
    }

    pub(super) fn into_reply(self) -> Response<Bytes> {
        let mut reply = json(self.status, &Body { message: &self.message });
        reply.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(self.code));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            reply.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        reply
    }
}

impl From<SigV4Error> for Fault {
    /// Source: AWS General Reference, common errors.
    fn from(error: SigV4Error) -> Self {
        let code = match &error {
            SigV4Error::Missing => "MissingAuthenticationTokenException",
            SigV4Error::Malformed(_) => "IncompleteSignatureException",
            SigV4Error::UnknownKey | SigV4Error::SessionToken => "UnrecognizedClientException",
            SigV4Error::Scope(_)
            | SigV4Error::UnsignedHeader(_)
            | SigV4Error::Expired
            | SigV4Error::NotYetCurrent
            | SigV4Error::PresignedExpired
            | SigV4Error::PayloadMismatch
            | SigV4Error::StreamingPayload
            | SigV4Error::UnsignedPayload
            | SigV4Error::Mismatch => "InvalidSignatureException",
        };
        Self { status: StatusCode::FORBIDDEN, ..Self::new(code, error.to_string()) }
    }
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let mut reply = Response::new(Bytes::from(serde_json::to_vec(value).unwrap_or_default()));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}
