//! A refusal as the caller sees it: HTTP status, the model's error code, a text that says what to do.
//!
//! The one place that decides which error becomes which code in which protocol. Nothing internal gets into a fault: what
//! the log needs is logged where the fault is made.

use edgetrail_cloudtrail::Refusal;
use edgetrail_sigv4::SigV4Error;
use http::StatusCode;

/// Of a name that a caller gave, repeated in a refusal.
const SHOWN_CHARACTERS: usize = 300;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

/// In which dialect a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// AWS JSON 1.1: CloudTrail, Organizations.
    Json,
    /// AWS Query, XML answers: STS.
    Query,
    /// S3's REST and XML.
    S3,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// Whether the caller is at fault, not this collector.
    pub(crate) fn is_callers(&self) -> bool {
        self.status.is_client_error()
    }

    /// The caller's fault, in the JSON protocols: always 400.
    pub(crate) fn client(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// Ours. The cause belongs in the log, not here.
    pub(crate) fn internal(protocol: Protocol) -> Self {
        let code = match protocol {
            Protocol::Json => "InternalFailure",
            Protocol::Query | Protocol::S3 => "InternalError",
        };
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, "the collector could not answer; its log says why")
    }

    pub(crate) fn too_large(protocol: Protocol, bytes_max: usize) -> Self {
        let code = match protocol {
            Protocol::Json | Protocol::Query => "RequestEntityTooLargeException",
            Protocol::S3 => "EntityTooLarge",
        };
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, code, format!("the request's body is larger than {bytes_max} bytes"))
    }

    /// What no policy allows. It names only what the caller named itself.
    pub(crate) fn denied(protocol: Protocol, caller: &str, action: &str, resource: &str) -> Self {
        let (status, code) = match protocol {
            Protocol::Json => (StatusCode::BAD_REQUEST, "AccessDeniedException"),
            Protocol::Query | Protocol::S3 => (StatusCode::FORBIDDEN, "AccessDenied"),
        };
        let resource: String = resource.chars().take(SHOWN_CHARACTERS).collect();
        let message = format!("User: {caller} is not authorized to perform: {action} on resource: {resource}");
        Self::new(status, code, message)
    }

    /// Too many attempts to prove who one is.
    pub(crate) fn throttled(protocol: Protocol) -> Self {
        let (status, code) = match protocol {
            Protocol::Json => (StatusCode::BAD_REQUEST, "ThrottlingException"),
            Protocol::Query => (StatusCode::BAD_REQUEST, "Throttling"),
            Protocol::S3 => (StatusCode::SERVICE_UNAVAILABLE, "SlowDown"),
        };
        Self::new(status, code, "too many calls from here did not prove who makes them: try again later")
    }

    pub(crate) fn of_signature(error: &SigV4Error, protocol: Protocol) -> Self {
        let (status, code) = match protocol {
            Protocol::Json => (StatusCode::BAD_REQUEST, json_code(error)),
            Protocol::Query => (StatusCode::FORBIDDEN, query_code(error)),
            Protocol::S3 => s3_code(error),
        };
        Self::new(status, code, error.to_string())
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::client(refusal.code, refusal.message)
    }
}

fn json_code(error: &SigV4Error) -> &'static str {
    match error {
        SigV4Error::Missing => "MissingAuthenticationToken",
        SigV4Error::Malformed(_) => "IncompleteSignature",
        SigV4Error::Expired | SigV4Error::PresignedExpired => "RequestExpired",
        SigV4Error::UnknownKey | SigV4Error::SessionToken => "UnrecognizedClientException",
        SigV4Error::Scope(_)
        | SigV4Error::UnsignedHeader(_)
        | SigV4Error::NotYetCurrent
        | SigV4Error::PayloadMismatch
        | SigV4Error::StreamingPayload
        | SigV4Error::UnsignedPayload
        | SigV4Error::Mismatch => "InvalidSignatureException",
    }
}

fn query_code(error: &SigV4Error) -> &'static str {
    match error {
        SigV4Error::UnknownKey | SigV4Error::SessionToken => "InvalidClientTokenId",
        SigV4Error::Scope(_) | SigV4Error::NotYetCurrent | SigV4Error::PayloadMismatch | SigV4Error::Mismatch => {
            "SignatureDoesNotMatch"
        }
        SigV4Error::UnsignedHeader(_) | SigV4Error::StreamingPayload | SigV4Error::UnsignedPayload => "SignatureDoesNotMatch",
        SigV4Error::Missing | SigV4Error::Malformed(_) | SigV4Error::Expired | SigV4Error::PresignedExpired => json_code(error),
    }
}

/// Source: Amazon S3 API reference, error responses.
fn s3_code(error: &SigV4Error) -> (StatusCode, &'static str) {
    match error {
        SigV4Error::Missing | SigV4Error::UnsignedHeader(_) | SigV4Error::PresignedExpired => {
            (StatusCode::FORBIDDEN, "AccessDenied")
        }
        SigV4Error::Malformed(_) | SigV4Error::Scope(_) => (StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed"),
        SigV4Error::Expired | SigV4Error::NotYetCurrent => (StatusCode::FORBIDDEN, "RequestTimeTooSkewed"),
        SigV4Error::UnknownKey => (StatusCode::FORBIDDEN, "InvalidAccessKeyId"),
        SigV4Error::SessionToken => (StatusCode::BAD_REQUEST, "InvalidToken"),
        SigV4Error::PayloadMismatch => (StatusCode::BAD_REQUEST, "XAmzContentSHA256Mismatch"),
        SigV4Error::StreamingPayload => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        SigV4Error::UnsignedPayload => (StatusCode::BAD_REQUEST, "InvalidRequest"),
        SigV4Error::Mismatch => (StatusCode::FORBIDDEN, "SignatureDoesNotMatch"),
    }
}
